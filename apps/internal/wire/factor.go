package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/auth"
)

// factorKeysFile is where the keys are that seal second factors, unless the settings have them.
const factorKeysFile = "factor.keys"

// openFactors switches second factors on, if the settings do.
func (a *App) openFactors(cfg *auth.Config) error {
	s := a.settings
	if s.SecondFactor != "on" {
		return nil
	}
	keys, err := config.ParseFactorKeys(s.FactorKeys)
	if err == nil && len(keys) == 0 {
		keys, err = factorKeys(filepath.Join(s.Data, factorKeysFile))
	}
	if err != nil {
		return fmt.Errorf("second-factor-keys: %w", err)
	}
	cfg.FactorKeys, cfg.FactorIssuer = keys, issuerName(s.Product)
	return nil
}

// issuerName is the product without colons, which would end it in an authenticator app.
func issuerName(product string) string {
	name := []rune(product)
	for i, r := range name {
		if r == ':' {
			name[i] = ' '
		}
	}
	return string(name)
}

// factorKeys reads the keys of a file, which it makes where there is none.
func factorKeys(file string) ([][]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFactorKeys(file); err != nil {
			return nil, fmt.Errorf("make %s: %w", file, err)
		}
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(file); err != nil {
		return nil, err
	} else if info.Mode().Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the file %s is open to everybody (mode %04o): make it 0600", file, info.Mode().Perm())
	}
	keys, err := config.ParseFactorKeys(string(text))
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no key")
	}
	if err != nil {
		return nil, fmt.Errorf("the file %s is damaged (%w): restore it from a copy; without its keys only recovery codes are good", file, err)
	}
	return keys, nil
}

// makeFactorKeys makes the file with one key, unless another process makes it at the same time.
func makeFactorKeys(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	made, err := os.CreateTemp(filepath.Dir(file), ".factor-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(made.Name()) }()
	_, err = fmt.Fprintf(made, "# Seals the secrets of second factors: the first key seals, all of them open. Keep a copy.\n%s\n", config.FormatFactorKey(auth.NewFactorKey()))
	err = errors.Join(err, made.Sync(), made.Close())
	if err != nil {
		return err
	}
	// A link, unlike a rename, fails where another process was first; its key is the one, then.
	if err := os.Link(made.Name(), file); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
