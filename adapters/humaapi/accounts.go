package humaapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

type userPage struct {
	Users      []userRecord `json:"users" nullable:"false" doc:"Ascending by ID, which is by age."`
	NextCursor string       `json:"nextCursor,omitempty" doc:"For the next page; missing on the last one."`
}

type createUserRequest struct {
	FullName string `json:"fullName" example:"Ada Lovelace"`
	Email    string `json:"email" example:"ada@example.com"`
	Role     string `json:"role,omitempty" enum:"user,admin" default:"user"`
	Invite   bool   `json:"invite,omitempty" doc:"Mail the user a link by which a password is chosen. Without it the user asks for one, as for a forgotten password."`
}

type changeUserRequest struct {
	Disabled *bool   `json:"disabled,omitempty" required:"false" doc:"Whether the user is shut out: without sessions, sockets and mails, and with a password that counts as wrong."`
	Role     *string `json:"role,omitempty" required:"false" enum:"user,admin"`
	Verified *bool   `json:"verified,omitempty" required:"false" doc:"Whether the address counts as proven."`
}

type (
	listUsersInput struct {
		Query  string `query:"query" maxLength:"254" doc:"Only users whose address or full name begins with it. Letters A to Z count as a to z."`
		Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Users a page."`
	}
	listUsersOutput  struct{ Body userPage }
	createUserInput  struct{ Body createUserRequest }
	createUserOutput struct{ Body userRecord }
	changeUserInput  struct {
		ID   string `path:"id" maxLength:"512" doc:"ID of the user, or else the e-mail address."`
		Body changeUserRequest
	}
)

// registerUserAccounts puts what needs the accounts onto the API.
func registerUserAccounts(a *API, accounts *auth.Service, operation func(huma.Operation) huma.Operation, failures func(more ...error) []error) {
	register(a, operation(huma.Operation{
		OperationID: "list-users", Method: http.MethodGet, Path: "/admin/users",
		Summary:   "A page of the users",
		Responses: answers(http.StatusOK, "The users. There may be a next page without any."),
	}), failures(auth.ErrNoDirectory, auth.ErrPrefixInvalid), func(ctx context.Context, in *listUsersInput) (*listUsersOutput, error) {
		// One more than the page holds, to know whether there is a next one.
		users, err := accounts.ListUsers(ctx, user.Filter{Prefix: in.Query, After: user.ID(in.Cursor), Limit: in.Limit + 1})
		if err != nil {
			return nil, err
		}
		out := &listUsersOutput{Body: userPage{Users: []userRecord{}}}
		if len(users) > in.Limit {
			users = users[:in.Limit]
			out.Body.NextCursor = string(users[in.Limit-1].ID)
		}
		for _, u := range users {
			out.Body.Users = append(out.Body.Users, recordOf(u))
		}
		return out, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "create-user", Method: http.MethodPost, Path: "/admin/users", DefaultStatus: http.StatusCreated,
		Summary: "Make an account",
		Description: "The account has no password, and its address is not proven: nobody can sign in until the owner of the address has chosen a password by a mail. " +
			"A sign-up at the address cannot take the account over.",
		Responses: answers(http.StatusCreated, "The account."),
	}), failures(user.ErrEmailTaken, user.ErrEmailInvalid, user.ErrFullNameInvalid, user.ErrRoleUnknown, auth.ErrNoDirectory), func(ctx context.Context, in *createUserInput) (*createUserOutput, error) {
		u, err := accounts.CreateUser(ctx, auth.NewUser{
			ID: user.ID(madeID(ctx)), FullName: in.Body.FullName, Email: in.Body.Email, Role: user.Role(in.Body.Role), Invite: in.Body.Invite,
		})
		if err != nil {
			return nil, err
		}
		return &createUserOutput{Body: recordOf(u)}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "change-user", Method: http.MethodPatch, Path: "/admin/users/{id}",
		Summary: "Disable or enable a user, change the role, or say whether the address is proven",
		Description: "What is not named stays. Whoever is disabled has no session and no open socket any more on any node within a second, and mails that wait for them are forgotten; " +
			"to strangers the password counts as wrong. Sessions end as well when the role changes, or the proof of the address is taken away.",
		Responses: answers(http.StatusOK, "The account as it is now."),
	}), failures(user.ErrNotFound, user.ErrRoleUnknown, auth.ErrLastAdmin, auth.ErrNoDirectory), func(ctx context.Context, in *changeUserInput) (*recordOutput, error) {
		u, err := accounts.Find(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		change := auth.UserChange{Disabled: in.Body.Disabled, Verified: in.Body.Verified}
		if in.Body.Role != nil {
			role := user.Role(*in.Body.Role)
			change.Role = &role
		}
		if u, err = accounts.ChangeUser(ctx, u.ID, change); err != nil {
			return nil, err
		}
		return &recordOutput{Body: recordOf(u)}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "mail-user-password", Method: http.MethodPost, Path: "/admin/users/{id}/password", DefaultStatus: http.StatusAccepted,
		Summary:     "Mail a user a link by which a new password is chosen",
		Description: "It is the mail for a forgotten password. The old password stays good until the new one is set, which ends every session.",
		Responses:   answers(http.StatusAccepted, "The mail is on its way."),
	}), failures(user.ErrNotFound, auth.ErrUserDisabled), func(ctx context.Context, in *userInput) (*messageOutput, error) {
		u, err := accounts.Find(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if err := accounts.MailPassword(ctx, u.ID); err != nil {
			return nil, err
		}
		return said("The mail is on its way."), nil
	})
	register(a, operation(huma.Operation{
		OperationID: "remove-user-factor", Method: http.MethodDelete, Path: "/admin/users/{id}/factor", DefaultStatus: http.StatusNoContent,
		Summary:     "Take the second factor of a user away",
		Description: "For a user who has lost the authenticator app and the recovery codes. A mail tells the owner. Make sure who asks: from then on the password alone opens a session.",
		Responses:   answers(http.StatusNoContent, "A sign-in takes no code any more."),
	}), failures(user.ErrNotFound, auth.ErrFactorNotFound, auth.ErrFactorsOff), func(ctx context.Context, in *userInput) (*noOutput, error) {
		u, err := accounts.Find(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return &noOutput{}, accounts.RemoveFactorOf(ctx, u.ID)
	})
	register(a, operation(huma.Operation{
		OperationID: "end-user-sessions", Method: http.MethodDelete, Path: "/admin/users/{id}/sessions", DefaultStatus: http.StatusNoContent,
		Summary:   "End the sessions of a user",
		Responses: answers(http.StatusNoContent, "They have ended, and open sockets close."),
	}), failures(user.ErrNotFound), func(ctx context.Context, in *userInput) (*noOutput, error) {
		u, err := accounts.Find(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return &noOutput{}, accounts.EndSessions(ctx, u.ID)
	})
}
