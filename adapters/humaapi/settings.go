package humaapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/chat"
)

type userSettings struct {
	ReadReceipts bool `json:"readReceipts" doc:"Whether others are told how far the caller has read." example:"true"`
}

type settingsChange struct {
	ReadReceipts *bool `json:"readReceipts,omitempty" nullable:"false" doc:"Whether others are told how far the caller has read: true until it is set." example:"false"`
}

type (
	changeSettingsInput struct{ Body settingsChange }
	settingsOutput      struct{ Body userSettings }
)

// registerSettings puts the calls onto the API by which a user sets something for themselves.
func (c roomCalls) registerSettings() {
	register(c.api, c.operation(huma.Operation{
		OperationID: "get-settings", Method: http.MethodGet, Path: "/me/settings",
		Summary: "What the caller has set for themselves", Responses: answers(http.StatusOK, "The settings."),
	}), c.failures(chat.ErrNoSettings), func(ctx context.Context, _ *struct{}) (*settingsOutput, error) {
		return c.settings(ctx)
	})
	register(c.api, c.operation(huma.Operation{
		OperationID: "update-settings", Method: http.MethodPatch, Path: "/me/settings",
		Summary: "Set something for oneself",
		Description: "What is not given stays. Without readReceipts nobody else is told how far the caller has read, on every node: marked goes to the caller's own connections alone, and lists of members leave read out. " +
			"The caller is told how far others have read all the same.",
		Responses: answers(http.StatusOK, "They are stored."),
	}), c.failures(chat.ErrNoSettings), func(ctx context.Context, in *changeSettingsInput) (*settingsOutput, error) {
		if on := in.Body.ReadReceipts; on != nil {
			set := chat.UserSettings{HidesRead: !*on}
			if err := c.service.SetUserSettings(ctx, c.speaker(ctx).ID, set); err != nil {
				return nil, err
			}
			return settingsOf(set), nil
		}
		return c.settings(ctx)
	})
}

func (c roomCalls) settings(ctx context.Context) (*settingsOutput, error) {
	set, err := c.service.UserSettings(ctx, c.speaker(ctx).ID)
	if err != nil {
		return nil, err
	}
	return settingsOf(set), nil
}

func settingsOf(set chat.UserSettings) *settingsOutput {
	return &settingsOutput{Body: userSettings{ReadReceipts: !set.HidesRead}}
}
