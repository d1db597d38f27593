package config

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Build says which build of the module this is.
type Build struct {
	// Version is that of the module: a tag, or one that Go makes of the commit; "devel" where the build
	// knew neither.
	Version string
	// Commit is the revision it was built from, with a + behind if files were changed; empty where the build
	// did not know.
	Commit string
	// Go is the version of Go.
	Go string
}

// commit is set by a build that has the files and not their history: -ldflags '-X …config.commit=…'.
var commit string

// ThisBuild returns what the program was built from.
func ThisBuild() Build {
	b := Build{Version: "devel", Commit: commit, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	if b.Commit != "" {
		b.Commit += changed
	}
	return b
}

// versionLine is what --version prints.
func versionLine(program Program) string {
	b := ThisBuild()
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return fmt.Sprintf("%s %s, commit %s, %s %s/%s", program, b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH)
}
