package asyncapi_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/asyncapi"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/webhook"
)

func config() asyncapi.Config {
	return asyncapi.Config{Schema: protocol.Own(), Title: "Chess", Version: "2.3.4", Server: "chess.example:5002", ReasonHeader: "why"}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	asJSON, asYAML, err := asyncapi.Document(config())
	require.NoError(t, err)
	again, _, err := asyncapi.Document(config())
	require.NoError(t, err)
	assert.Equal(t, string(asJSON), string(again), "it differs from run to run")
	fromYAML, err := yaml.YAMLToJSON(asYAML)
	require.NoError(t, err)
	assert.JSONEq(t, string(asJSON), string(fromYAML))

	var doc struct {
		AsyncAPI string
		Info     struct{ Title, Version string }
		Servers  map[string]struct{ Host string }
		Channels map[string]struct {
			Messages map[string]struct {
				Ref string `json:"$ref"`
			}
		}
		Components struct {
			Messages map[string]struct {
				Headers struct{ Required []string }
			}
			Schemas map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(asJSON, &doc))
	assert.Equal(t, "3.0.0", doc.AsyncAPI)
	assert.Equal(t, "Chess", doc.Info.Title)
	assert.Equal(t, "2.3.4", doc.Info.Version)
	assert.Contains(t, slices.Collect(maps.Values(doc.Servers)), struct{ Host string }{"chess.example:5002"})
	described := map[string]bool{}
	for topic, types := range map[string][]string{
		mail.Topic:    {mail.TypeUserCreated, mail.TypeVerificationAgain, mail.TypeAddressTaken, mail.TypePasswordForgotten, mail.TypePasswordChanged, mail.TypeDeviceSignedIn, mail.TypeFactorChanged, mail.TypeEmailChangeRequested, mail.TypeEmailChanged, mail.TypeLinkRequested, mail.TypeUserInvited, mail.TypeUserDisabled, mail.TypeUserErased, mail.TypeNothing},
		auth.Topic:    {auth.TypeSessionRevoked, auth.TypeSessionsRevoked},
		webhook.Topic: webhook.Types(),
	} {
		assert.Len(t, doc.Channels[topic].Messages, len(types))
		for _, typ := range types {
			message, ok := doc.Channels[topic].Messages[typ]
			assert.True(t, ok, "%s: %s", topic, typ)
			key := strings.TrimPrefix(message.Ref, "#/components/messages/")
			if described[key] {
				t.Errorf("%s is described twice", key)
			}
			described[key] = true
			assert.Contains(t, doc.Components.Messages, key)
		}
		if dead, ok := event.DeadTopic(topic); ok {
			assert.Contains(t, doc.Channels, dead)
		}
	}
	assert.Equal(t, []string{"why"}, doc.Components.Messages["dead"].Headers.Required)
	assert.Contains(t, doc.Components.Messages, "SendMessage", "the socket's events are in it too")
	for ref := range strings.SplitSeq(string(asJSON), `"$ref": "#/`) {
		if path, _, ok := strings.Cut(ref, `"`); ok && strings.HasPrefix(path, "components/schemas/") {
			assert.Contains(t, doc.Components.Schemas, strings.TrimPrefix(path, "components/schemas/"), "a reference leads nowhere")
		}
	}
}

func TestDocumentNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, _, err := asyncapi.Document(asyncapi.Config{})
	for _, field := range []string{"Schema", "Title", "Version", "Server", "ReasonHeader"} {
		assert.ErrorContains(t, err, field)
	}
}
