package jwtauth

import "os"

// Remembered is how many signatures the verifier remembers.
func Remembered(v *Verifier) int { return v.signed.len() }

// KeepsModes reports whether a folder keeps the modes of files that create makes.
func KeepsModes(folder string, create func(folder, pattern string) (*os.File, error)) bool {
	return keepsModes(folder, create)
}
