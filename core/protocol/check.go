package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/internal/jsontext"
)

// Check reads one event of a client against the schema. It is the one check that every wire format
// uses, so that all of them refuse the same. A format begins with [Schema.Check], asks for each
// field by its name, gives it its value by the method of the field's type, and ends with [Check.Command]:
//
//	k, err := schema.Check("presence")
//	f, err := k.Field("room")
//	err = k.Text(f, "hall")
//	cmd, err := k.Command()
//
// Every error is ErrBadEvent with a detail. After the first one, and after Command, a Check is not
// used any more. One goroutine may use it at a time.
type Check struct {
	seen uint64
	cmd  Command
}

// checks are used again, because a command would have to be allocated for each message otherwise.
var checks = sync.Pool{New: func() any { return new(Check) }}

// Check begins to read an event. It refuses one that a client may not send.
func (s *Schema) Check(event string) (*Check, error) { return s.check([]byte(event)) }

func (s *Schema) check(event []byte) (*Check, error) {
	e := s.byName[string(event)]
	if e == nil {
		return nil, ErrBadEvent.Detail("unknown event %s", quote(string(event)))
	}
	k := checks.Get().(*Check)
	k.cmd.Event, k.cmd.schema = e.Name, e // all else is zero
	return k, nil
}

// Field returns the field of a name. It refuses one that the event does not have, and one that it
// was asked for before.
func (k *Check) Field(name string) (*Field, error) { return k.field([]byte(name)) }

func (k *Check) field(name []byte) (*Field, error) {
	fields := k.cmd.schema.Data.Fields
	for i := range fields {
		f := &fields[i]
		if f.Name != string(name) {
			continue
		}
		if k.seen&(1<<i) != 0 {
			return nil, ErrBadEvent.Detail("data.%s stands twice", f.Name)
		}
		k.seen |= 1 << i
		return f, nil
	}
	return nil, ErrBadEvent.Detail("unknown field data.%s", quote(string(name)))
}

// Text gives a String its value. s must be UTF-8 and no part of a message.
func (k *Check) Text(f *Field, s string) error {
	if f.Type != String {
		return f.refuse(f.Type)
	}
	if err := f.text(s); err != nil {
		return ErrBadEvent.Detail("data.%s: %v", f.Name, err)
	}
	if f.set == nil {
		k.put(f, s)
	} else {
		f.set(&k.cmd, value{text: s})
	}
	return nil
}

// Integer gives an Integer its value.
func (k *Check) Integer(f *Field, n uint64) error {
	if f.Type != Integer {
		return f.refuse(f.Type)
	}
	if err := f.number(n); err != nil {
		return ErrBadEvent.Detail("data.%s: %v", f.Name, err)
	}
	if f.set == nil {
		k.put(f, n)
	} else {
		f.set(&k.cmd, value{number: n})
	}
	return nil
}

// Boolean gives a Boolean its value.
func (k *Check) Boolean(f *Field, b bool) error {
	if f.Type != Boolean {
		return f.refuse(f.Type)
	}
	if f.set == nil {
		k.put(f, b)
	} else {
		f.set(&k.cmd, value{flag: b})
	}
	return nil
}

// Free gives a Free its value, the text of a JSON object. s must be no part of a message.
func (k *Check) Free(f *Field, s string) error {
	if f.Type != Free {
		return f.refuse(f.Type)
	}
	s, err := f.free(s)
	if err != nil {
		return ErrBadEvent.Detail("data.%s: %v", f.Name, err)
	}
	if f.set == nil {
		k.put(f, FreeObject(s))
	} else {
		f.set(&k.cmd, value{text: s})
	}
	return nil
}

func (k *Check) put(f *Field, v any) {
	if k.cmd.Data == nil {
		k.cmd.Data = Data{}
	}
	k.cmd.Data[f.Name] = v
}

// Command ends the reading. It refuses an event that lacks a field, and sets what has a default.
func (k *Check) Command() (Command, error) {
	fields := k.cmd.schema.Data.Fields
	for i := range fields {
		if k.seen&(1<<i) != 0 {
			continue
		}
		if fields[i].Required {
			return Command{}, ErrBadEvent.Detail("data.%s is missing", fields[i].Name)
		}
		if fields[i].missing != nil {
			fields[i].missing(&k.cmd)
		}
	}
	cmd := k.cmd
	*k = Check{} // keeps nothing alive
	checks.Put(k)
	return cmd, nil
}

// value is what a field was given; which part counts depends on its type.
type value struct {
	text   string
	number uint64
	flag   bool
}

// refuse says that a value is not of the field's type.
func (f *Field) refuse(t FieldType) error {
	what := "not one that a client can send"
	switch t {
	case String:
		what = "not a string"
	case Integer:
		what = fmt.Sprintf("not an integer from 0 to %d", uint64(MaxInteger))
	case Boolean:
		what = "must be true or false"
	case Free:
		what = "not an object"
	}
	return ErrBadEvent.Detail("data.%s: %s", f.Name, what)
}

// text checks a string.
func (f *Field) text(s string) error {
	most := f.MaxLength
	if most == 0 {
		most = len(s) // no bound: what the server sends
	}
	if n := utf8.RuneCountInString(s); n < f.MinLength || n > most {
		return fmt.Errorf("must have %d to %d characters", f.MinLength, f.MaxLength)
	}
	if f.Check != nil {
		if err := f.Check(s); err != nil {
			if detail := fault.Public(err).Detail; detail != "" {
				return errors.New(detail)
			}
			return errors.New("is not allowed")
		}
	}
	return nil
}

// free checks an object of the application and returns it without white space between its tokens.
func (f *Field) free(s string) (string, error) {
	most := f.MaxLength
	if most == 0 {
		most = len(s) // no bound: what the server sends
	}
	return jsontext.Compact(s, most, chat.MaxDataDepth)
}

// number checks an integer.
func (f *Field) number(n uint64) error {
	if n > MaxInteger {
		return fmt.Errorf("not an integer from 0 to %d", uint64(MaxInteger))
	}
	if n < f.Minimum || (f.Maximum > 0 && n > f.Maximum) {
		return errors.New("out of range")
	}
	return nil
}

// Fits reports what is wrong with the fields of something that the server sends: a field that the
// object does not have, one that is missing, and a value that is not of its type or bounds. It returns
// nil if all is well.
func (o *Object) Fits(d Data) error {
	for name := range d {
		if o.field(name) == nil {
			return fmt.Errorf("%s: there is no field %s", o.Name, quote(name))
		}
	}
	for i := range o.Fields {
		f := &o.Fields[i]
		v, given := d[f.Name]
		if !given {
			if f.Required {
				return fmt.Errorf("%s: %s is missing", o.Name, f.Name)
			}
			continue
		}
		if err := f.fits(v); err != nil {
			return fmt.Errorf("%s: %s: %w", o.Name, f.Name, err)
		}
	}
	return nil
}

func (o *Object) field(name string) *Field {
	for i := range o.Fields {
		if o.Fields[i].Name == name {
			return &o.Fields[i]
		}
	}
	return nil
}

func (f *Field) fits(v any) error {
	switch f.Type {
	case String:
		if s, ok := v.(string); ok {
			return f.text(s)
		}
		if v == nil && f.Null {
			return nil
		}
	case Integer:
		if n, ok := number(v); ok {
			return f.number(n)
		}
	case Boolean:
		if _, ok := v.(bool); ok {
			return nil
		}
	case Time:
		if _, ok := v.(time.Time); ok {
			return nil
		}
	case Free:
		if s, ok := v.(FreeObject); ok {
			_, err := f.free(string(s))
			return err
		}
	case Texts:
		if _, ok := v.([]string); ok {
			return nil
		}
	case Ref:
		if d, ok := v.(Data); ok {
			return f.Object.Fits(d)
		}
	case ListOf:
		if list, ok := v.([]Data); ok {
			for _, d := range list {
				if err := f.Object.Fits(d); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return fmt.Errorf("%T is no value of it", v)
}

// number reads what [Data] has for an integer.
func number(v any) (uint64, bool) {
	switch n := v.(type) {
	case uint64:
		return n, true
	case int:
		return uint64(n), n >= 0
	}
	return 0, false
}

// quote shows a foreign name in an explanation, cut short.
func quote(name string) string {
	const most = 40
	if len(name) > most {
		return strconv.QuoteToASCII(name[:most]) + "…"
	}
	return strconv.QuoteToASCII(name)
}
