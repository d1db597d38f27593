package watermillbus_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

var whole = event.Event{
	ID: "Zweites-ü", Topic: "mail", Type: "user.created", Key: "user 1",
	Time: time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC), Data: []byte(`{ "a": 1.50 }`),
}

func TestEncode(t *testing.T) {
	t.Parallel()
	m, err := watermillbus.Encode(whole, "")
	require.NoError(t, err)
	assert.Equal(t, message.Metadata{
		"ce_specversion":  "1.0",
		"ce_id":           "Zweites-ü",
		"ce_source":       "parley",
		"ce_type":         "user.created",
		"ce_time":         "2026-01-02T03:04:05.678901Z",
		"ce_partitionkey": "user 1",
		"content-type":    "application/json",
	}, m.Metadata)
	assert.JSONEq(t, `{"a": 1.5}`, string(m.Payload))
}

func TestEncodeLeavesOutWhatIsNotThere(t *testing.T) {
	t.Parallel()
	m, err := watermillbus.Encode(event.Event{ID: "1", Topic: "mail", Type: "x"}, "https://chat.example")
	require.NoError(t, err)
	assert.NotContains(t, m.Metadata, "ce_time")
	assert.NotContains(t, m.Metadata, "ce_partitionkey")
	assert.Equal(t, "https://chat.example", m.Metadata.Get("ce_source"))
	e, err := watermillbus.Decode("mail", m)
	require.NoError(t, err)
	assert.Equal(t, event.Event{ID: "1", Topic: "mail", Type: "x"}, e)
}

func TestDecodeIsTheReverse(t *testing.T) {
	t.Parallel()
	m, err := watermillbus.Encode(whole, "")
	require.NoError(t, err)
	got, err := watermillbus.Decode("mail", m)
	require.NoError(t, err)
	assert.Equal(t, whole, got)
	got.Data[0] = '!'
	again, err := watermillbus.Decode("mail", m)
	require.NoError(t, err)
	assert.Equal(t, whole, again, "what Decode returns is a copy")
}

func TestDecodeForeignMessages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(message.Metadata)
		ok     bool
	}{
		"as we write it":               {func(message.Metadata) {}, true},
		"an attribute more":            {func(m message.Metadata) { m["ce_subject"] = "x" }, true},
		"no content type":              {func(m message.Metadata) { delete(m, "content-type") }, true},
		"content type with charset":    {func(m message.Metadata) { m["content-type"] = "application/json; charset=utf-8" }, true},
		"no time":                      {func(m message.Metadata) { delete(m, "ce_time") }, true},
		"no key":                       {func(m message.Metadata) { delete(m, "ce_partitionkey") }, true},
		"time in another zone":         {func(m message.Metadata) { m["ce_time"] = "2026-01-02T04:04:05+01:00" }, true},
		"no specversion":               {func(m message.Metadata) { delete(m, "ce_specversion") }, false},
		"another specversion":          {func(m message.Metadata) { m["ce_specversion"] = "0.3" }, false},
		"no id":                        {func(m message.Metadata) { delete(m, "ce_id") }, false},
		"empty id":                     {func(m message.Metadata) { m["ce_id"] = "" }, false},
		"no source":                    {func(m message.Metadata) { delete(m, "ce_source") }, false},
		"no type":                      {func(m message.Metadata) { delete(m, "ce_type") }, false},
		"time is not a time":           {func(m message.Metadata) { m["ce_time"] = "yesterday" }, false},
		"structured mode":              {func(m message.Metadata) { m["content-type"] = "application/cloudevents+json" }, false},
		"other content":                {func(m message.Metadata) { m["content-type"] = "text/plain" }, false},
		"content type is not one":      {func(m message.Metadata) { m["content-type"] = ";;;" }, false},
		"nothing":                      {func(m message.Metadata) { clear(m) }, false},
		"attributes in capitals":       {func(m message.Metadata) { m["CE_ID"] = m["ce_id"]; delete(m, "ce_id") }, false},
		"attributes of the HTTP style": {func(m message.Metadata) { m["ce-id"] = m["ce_id"]; delete(m, "ce_id") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := watermillbus.Encode(whole, "")
			require.NoError(t, err)
			test.change(m.Metadata)
			got, err := watermillbus.Decode("mail", m)
			if !test.ok {
				require.ErrorIs(t, err, watermillbus.ErrMessageMalformed)
				require.ErrorIs(t, err, fault.Invalid)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, whole.ID, got.ID)
			assert.Equal(t, time.UTC, got.Time.Location())
		})
	}
	_, err := watermillbus.Decode("mail", &message.Message{})
	require.ErrorIs(t, err, watermillbus.ErrMessageMalformed, "no metadata at all")
}

func FuzzDecode(f *testing.F) {
	f.Add("1.0", "id", "source", "type", "2026-01-02T03:04:05Z", "key", "application/json", []byte(`{}`))
	f.Add("", "", "", "", "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, version, id, source, kind, at, key, content string, data []byte) {
		m := message.NewMessage(id, data)
		m.Metadata = message.Metadata{
			"ce_specversion": version, "ce_id": id, "ce_source": source, "ce_type": kind,
			"ce_time": at, "ce_partitionkey": key, "content-type": content,
		}
		e, err := watermillbus.Decode("mail", m)
		if err != nil {
			return
		}
		again, err := watermillbus.Encode(e, source)
		if err != nil {
			t.Fatalf("an event that was read cannot be written: %v", err)
		}
		back, err := watermillbus.Decode("mail", again)
		if err != nil || back.ID != e.ID || back.Type != e.Type || back.Key != e.Key || !back.Time.Equal(e.Time) || string(back.Data) != string(e.Data) {
			t.Fatalf("got %+v, %v, want %+v", back, err, e)
		}
	})
}
