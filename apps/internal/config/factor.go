package config

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/core/auth"
)

// ParseFactorKeys returns the keys that a setting or a file holds: in base64, between commas or on lines of their own. Lines that begin with # are comments. The
// error does not hold a key.
func ParseFactorKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.TrimSpace(one); one == "" {
				continue
			}
			key, err := base64.StdEncoding.DecodeString(one)
			if err != nil || len(key) != auth.FactorKeyBytes {
				return nil, fmt.Errorf("the key %d is not %d bytes in base64, as openssl rand -base64 %d makes them", len(keys)+1, auth.FactorKeyBytes, auth.FactorKeyBytes)
			}
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// FormatFactorKey is a key as ParseFactorKeys reads it.
func FormatFactorKey(key []byte) string { return base64.StdEncoding.EncodeToString(key) }
