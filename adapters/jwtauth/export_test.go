package jwtauth

// Remembered is how many signatures the verifier remembers.
func Remembered(v *Verifier) int { return v.signed.len() }
