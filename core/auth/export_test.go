package auth

// CodeHash is what a store knows a code by.
func CodeHash(purpose, code string) string { return codeHash(purpose, code) }
