package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// project is a copy of the project in apps/web/client/test/npm, which uses the browser client as a package.
type project struct {
	t      *testing.T
	folder string
}

// run runs a program in the project.
func (p project) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.folder
	cmd.Env = append(environment(), "npm_config_audit=false", "npm_config_fund=false", "npm_config_update_notifier=false", "npm_config_loglevel=error",
		"npm_config_ignore_scripts=true", "npm_config_fetch_retries=1", "npm_config_fetch_timeout=20000")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p project) must(name string, args ...string) string {
	p.t.Helper()
	out, err := p.run(name, args...)
	require.NoError(p.t, err, "%s %v: %s", name, args, out)
	return out
}

// bin is a program that npm has installed.
func (p project) bin(name string) string {
	return filepath.Join(p.folder, "node_modules", ".bin", name)
}

// npmProject packs the client, and installs it with its neighbours from the lock file. Without npm, or
// where nobody has asked for what needs the network, it skips the test.
func npmProject(t *testing.T) project {
	t.Helper()
	wish := os.Getenv("PARLEY_TEST_NPM")
	lacks := func(format string, args ...any) {
		why := fmt.Sprintf(format, args...)
		if wish == "required" {
			t.Fatal(why + ", and PARLEY_TEST_NPM=required")
		}
		t.Skip("skipped: " + why)
	}
	if wish == "" {
		lacks("it installs packages from the network, and PARLEY_TEST_NPM is not set (1, or required)")
	}
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			lacks("there is no %s in PATH", name)
		}
	}
	p := project{t, t.TempDir()}
	source := filepath.Join("..", "web", "client")
	require.NoError(t, os.CopyFS(p.folder, os.DirFS(filepath.Join(source, "test", "npm"))))
	require.NoError(t, os.RemoveAll(filepath.Join(p.folder, "node_modules"))) // of whoever tried it by hand
	if out, err := p.run("npm", "ci", "--prefer-offline"); err != nil {
		lacks("npm cannot install what the lock file names: %v\n%s", err, out)
	}
	absolute, err := filepath.Abs(source)
	require.NoError(t, err)
	var packed []struct {
		Filename string
		Files    []struct{ Path string }
	}
	out := p.must("npm", "pack", "--json", absolute)
	require.NoError(t, json.Unmarshal([]byte(out), &packed), out)
	require.Len(t, packed, 1)
	var files []string
	for _, f := range packed[0].Files {
		files = append(files, f.Path)
	}
	slices.Sort(files)
	assert.Equal(t, []string{
		"LICENSE", "README.md", "events.d.ts", "index.d.ts", "index.js", "package.json", "parley.d.ts", "parley.js", "session.d.ts", "session.js",
	}, files)
	p.must("npm", "install", "--no-save", "--offline", "./"+packed[0].Filename)
	return p
}

// TestTheClientAsAPackage uses the browser client as its users do: packed, installed, type-checked, in Node
// and in a page that Vite has built, with the running program.
func TestTheClientAsAPackage(t *testing.T) {
	t.Parallel()
	p := npmProject(t)
	p.must(p.bin("tsc"), "-p", "tsconfig.json")
	p.must(p.bin("tsc"), "-p", "tsconfig.page.json")

	t.Run("its types name what it exports", func(t *testing.T) {
		out := p.must("node", "--input-type=module", "--eval", `
			import names from "./out/types.js";
			import * as client from "@parley-chat/client";
			console.log(JSON.stringify([names, Object.keys(client).sort()]));`)
		var names [2][]string
		require.NoError(t, json.Unmarshal([]byte(out), &names), out)
		require.NotEmpty(t, names[0])
		assert.Equal(t, names[0], names[1])
	})

	t.Run("in Node", func(t *testing.T) {
		s := serve(t, t.TempDir())
		// The program ends by itself: nothing of the client holds it up.
		assert.Equal(t, []string{
			"Ada Lovelace Good morning",
			"grace is told 1 Ada Lovelace: Good morning",
			"Grace Hopper And to you",
			"stored once: true",
			"2 are there",
			"a token for true",
			"null null",
		}, sortedAs(p.must("node", "out/chat.js", s.url), "Grace Hopper And to you", "stored once: true"))
		s.sound(t)
	})

	t.Run("in a page that Vite has built", func(t *testing.T) {
		browser := startBrowser(t)
		p.must(p.bin("vite"), "build")
		page := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(p.folder, "dist"))))
		t.Cleanup(page.Close)
		s := serve(t, t.TempDir(), "--origins", page.URL)
		s.member(t, "Ada Lovelace")
		tab, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
		t.Cleanup(closeTab)
		ctx, cancel := context.WithTimeout(tab, patience)
		t.Cleanup(cancel)
		address := page.URL + "/?" + url.Values{"server": {s.url}, "email": {"ada.lovelace@example.com"}, "password": {password}}.Encode()
		require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(address)))
		shown := func() string {
			text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("ol")?.innerText ?? ""`))
			require.NoError(t, err)
			return text
		}
		await(t, "the message in the page", func() bool { return shown() != "" })
		assert.Equal(t, "Ada Lovelace: Hello from a bundle", shown())
		// After a reload it is the same session, and the room has what was said.
		require.NoError(t, chromedp.Do(ctx, chromedp.Reload()))
		await(t, "the messages after a reload", func() bool { return strings.Count(shown(), "\n") == 1 })
		assert.Equal(t, "Ada Lovelace: Hello from a bundle\nAda Lovelace: Hello from a bundle", shown())
		s.sound(t)
	})
}

// sortedAs splits the lines of an output. Two of them may come in either order.
func sortedAs(out, first, second string) []string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	i, j := slices.Index(lines, first), slices.Index(lines, second)
	if i == j+1 && j >= 0 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines
}
