package config

import (
	"cmp"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-chat/parley/adapters/humaapi"
)

// hidden stands where a secret stood.
const hidden = "xxxxx"

// byName finds the secrets of a URL that have a name: in a query, in the keyword form of PostgreSQL
// ("host=h password=p"), and among the properties of a mechanism of MongoDB.
var byName = regexp.MustCompile(`(?i)[a-z_]*(?:password|passwd|pwd|secret|token)[a-z_]*\s*[=:]\s*('(?:[^'\\]|\\.)*'|[^&\s;,]+)`)

// introduced is what stands before a secret that is told by its name.
var introduced = regexp.MustCompile(`(?i)(?:password|passwd|pwd|secret|token)[a-z_]*["']?\s*(?:=|:|%3D)\s*["']?$`)

// secretsOf returns what is secret in the address of a server, as it may be written, even if the
// address cannot be read.
func secretsOf(address string) []string {
	var found []string
	if rest := address[strings.Index(address, "://")+1:]; !strings.HasPrefix(address, "sqlite:") {
		rest = strings.TrimPrefix(rest, "//")
		// Up to the last @ before the path, and in all: a slash in a password should have been encoded.
		end := len(rest)
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			end = i
		}
		for _, part := range []string{rest[:end], rest} {
			if at := strings.LastIndexByte(part, '@'); at >= 0 {
				if _, password, ok := strings.Cut(part[:at], ":"); ok {
					found = append(found, password)
				}
			}
		}
	}
	for _, match := range byName.FindAllStringSubmatch(address, -1) {
		found = append(found, strings.Trim(match[1], "'"))
	}
	return found
}

// spellings returns the ways in which a secret may be written.
func spellings(secret string) []string {
	ways := []string{secret}
	for _, decode := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
		if plain, err := decode(secret); err == nil {
			ways = append(ways, plain)
		}
	}
	for _, plain := range slices.Clone(ways) {
		_, user, _ := strings.Cut(url.UserPassword("", plain).String(), ":")
		quoted := strconv.Quote(plain)
		ways = append(ways, url.QueryEscape(plain), url.PathEscape(plain), user, quoted[1:len(quoted)-1])
	}
	slices.SortFunc(ways, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.DeleteFunc(slices.Compact(ways), func(s string) bool { return s == "" })
}

// Hide returns text without the secrets of the settings, however they are written in it. Where a
// secret is a word that has other uses, it is hidden where it stands as one.
func (s Settings) Hide(text string) string {
	t, v := reflect.TypeFor[Settings](), reflect.ValueOf(s)
	for i := range t.NumField() {
		kind, secret := t.Field(i).Tag.Lookup("secret")
		value, isText := v.Field(i).Interface().(string)
		if !secret || !isText || value == "" {
			continue
		}
		if kind != "url" {
			for _, one := range append([]string{value}, humaapi.AdminTokens(value)...) { // there may be several
				text = hide(text, one, "")
			}
			continue
		}
		for _, one := range secretsOf(value) {
			text = hide(text, one, value)
		}
	}
	return text
}

// shortest is the length from which a secret is no word of an error's own, in bytes.
const shortest = 6

// hide removes one secret, which stood in an address, from a text.
func hide(text, secret, address string) string {
	for _, word := range spellings(secret) {
		// What is also the name of something in the address says nothing where it stands by itself.
		alone := len(word) >= shortest && !containsWord(strings.NewReplacer(":"+secret+"@", ":@", "="+secret, "=").Replace(address), word)
		var out strings.Builder
		rest := text
		for {
			i := strings.Index(rest, word)
			if i < 0 {
				break
			}
			before, after := text[:len(text)-len(rest)+i], rest[i+len(word):]
			out.WriteString(rest[:i])
			switch {
			case strings.HasSuffix(before, ":") && strings.HasPrefix(after, "@"),
				introduced.MatchString(before) && bounded("", after),
				alone && bounded(before, after):
				out.WriteString(hidden)
			default:
				out.WriteString(word)
			}
			rest = after
		}
		out.WriteString(rest)
		text = out.String()
	}
	return text
}

// bounded reports whether what stands between the two is no part of a longer word.
func bounded(before, after string) bool {
	last, _ := utf8.DecodeLastRuneInString(before)
	first, _ := utf8.DecodeRuneInString(after)
	part := func(r rune) bool {
		return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_')
	}
	return !part(last) && !part(first)
}

func containsWord(text, word string) bool {
	for i := strings.Index(text, word); i >= 0; {
		if bounded(text[:i], text[i+len(word):]) {
			return true
		}
		next := strings.Index(text[i+len(word):], word)
		if next < 0 {
			return false
		}
		i += len(word) + next
	}
	return false
}
