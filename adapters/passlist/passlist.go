// Package passlist implements auth.PasswordList with a list of common passwords that is part of
// the program.
//
// The list holds those of the 12,000 commonest passwords that have at least six characters, in lower
// case and in alphabetical order. It was made from the frequency list of zxcvbn 4.5.0 for Python
// (https://github.com/dwolfhub/zxcvbn-python, MIT licence, copyright 2016 Daniel Wolf and Dropbox, Inc.),
// which counts passwords that were published after break-ins.
//
// A password is common if it is in the list, or is what people make of one that is: in other letter
// case, with digits and signs in the place of letters (0 1 3 4 5 7 @ $ !), with up to four digits or
// signs behind it, backwards, or repeated; and if each of its characters follows the one before it
// ("abcdefgh", "87654321"). Spaces around it do not count.
package passlist

import (
	"context"
	_ "embed"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/parley-chat/parley/core/auth"
)

//go:embed common.txt
var common string

// words are the common passwords. They are read at the first question, in a few milliseconds.
var words = sync.OnceValue(func() map[string]struct{} {
	all := make(map[string]struct{}, strings.Count(common, "\n"))
	for word := range strings.FieldsSeq(common) {
		all[word] = struct{}{}
	}
	return all
})

// List is the list. Its zero value is ready, and may be used from many goroutines.
type List struct{}

var _ auth.PasswordList = List{}

// New returns the list.
func New() List { return List{} }

// maxSuffix is how many digits and signs behind a common password make it no other.
const maxSuffix = 4

// Contains implements auth.PasswordList. It never fails.
func (List) Contains(_ context.Context, password string) (bool, error) {
	p := []rune(strings.ToLower(strings.TrimSpace(password)))
	if sequence(p) {
		return true, nil
	}
	for range maxSuffix + 1 {
		if variant(p) {
			return true, nil
		}
		if len(p) == 0 || unicode.IsLetter(p[len(p)-1]) {
			break
		}
		p = p[:len(p)-1]
	}
	return false, nil
}

// variant reports whether p is a common password, perhaps disguised, backwards or repeated.
func variant(p []rune) bool {
	turned := slices.Clone(p)
	slices.Reverse(turned)
	for _, text := range [][]rune{p, turned, period(p)} {
		if listed(string(text)) {
			return true
		}
		for _, plain := range disguises {
			if listed(plain.Replace(string(text))) {
				return true
			}
		}
	}
	return false
}

func listed(word string) bool {
	_, is := words()[word]
	return is
}

// disguises undo what stands for letters. A one is an i or an l.
var disguises = []*strings.Replacer{
	strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i"),
	strings.NewReplacer("0", "o", "1", "l", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "l"),
}

// period returns the shortest text of which p is a repetition: p, if it is none.
func period(p []rune) []rune {
	for n := 1; n <= len(p)/2; n++ {
		if len(p)%n == 0 && slices.Equal(p[n:], p[:len(p)-n]) {
			return p[:n]
		}
	}
	return p
}

// sequence reports whether each character is the one after, or each the one before, its predecessor.
func sequence(p []rune) bool {
	if len(p) < 3 {
		return false
	}
	step := p[1] - p[0]
	if step != 1 && step != -1 {
		return false
	}
	for i := 2; i < len(p); i++ {
		if p[i]-p[i-1] != step {
			return false
		}
	}
	return true
}
