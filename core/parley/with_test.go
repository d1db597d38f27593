package parley_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/parley"
)

// TestWithTakesEveryPort takes one port at a time of another system, so that one that With forgets is noticed.
func TestWithTakesEveryPort(t *testing.T) {
	t.Parallel()
	mine, others := memory.NewPorts(), memory.NewPorts()
	for i := range reflect.TypeFor[parley.Ports]().NumField() {
		var one parley.Ports
		reflect.ValueOf(&one).Elem().Field(i).Set(reflect.ValueOf(others).Field(i))
		got := reflect.ValueOf(mine.With(one))
		for j := range got.NumField() {
			from := mine
			if i == j {
				from = others
			}
			assert.True(t, got.Field(j).Interface() == reflect.ValueOf(from).Field(j).Interface(),
				"with %s, %s is another one", got.Type().Field(i).Name, got.Type().Field(j).Name)
		}
	}
	assert.Equal(t, mine, mine.With(parley.Ports{}))
	assert.Equal(t, mine, parley.Ports{}.With(mine))
}
