package asvs_test

// mutant breaks the rule behind one requirement, where isBroken says so.
type mutant struct {
	id    string // of the requirement
	about string
	file  string // from the root of the module
	old   string // what stands there, once
	new   string
	store string // on which it shows; empty means memory
}

// mutants has at least one of each requirement. new may call isBroken(), which is true while this mutant is tried.
var mutants = []mutant{
	{
		id: "1.2.4", about: "a room's name is part of a statement", store: "SQLite", file: "adapters/bunstore/rooms.go",
		old: `" FROM parley_rooms WHERE name = ?", []any{name}, to...)`,
		new: `" FROM parley_rooms WHERE "+map[bool]string{false: "name = ?", true: "? <> '' AND name = '" + name + "'"}[isBroken()], []any{name}, to...)`,
	},
	{
		id: "1.3.11", about: "a name may have any character", file: "core/user/email.go",
		old: `if !visible.Only(s) || !visible.Any(s) {`,
		new: `if !isBroken() && (!visible.Only(s) || !visible.Any(s)) {`,
	},
	{
		id: "1.3.11", about: "ends of lines in a name stay", file: "core/user/email.go",
		old: `s = strings.Join(strings.Fields(s), " ")
	if s == "" {`,
		new: `if isBroken() {
		return s, nil
	}
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {`,
	},
	{
		id: "1.3.11", about: "an address may have anything behind its first label", file: "core/user/email.go",
		old: `!dotted(domain, isLabel)`,
		new: `!isBroken() && !dotted(domain, isLabel)`,
	},
	{
		id: "2.2.1", about: "an event may have unknown fields", file: "core/protocol/check.go",
		old: `return nil, ErrBadEvent.Detail("unknown field data.%s", quote(string(name)))`,
		new: `if isBroken() {
		return &Field{Name: string(name), Type: Boolean}, nil
	}
	return nil, ErrBadEvent.Detail("unknown field data.%s", quote(string(name)))`,
	},
	{
		id: "2.2.1", about: "a field of an event may stand twice", file: "core/protocol/check.go",
		old: `if k.seen&(1<<i) != 0 {
			return nil,`,
		new: `if !isBroken() && k.seen&(1<<i) != 0 {
			return nil,`,
	},
	{
		id: "2.2.1", about: "a field of an event may be missing", file: "core/protocol/check.go",
		old: `if fields[i].Required {`,
		new: `if !isBroken() && fields[i].Required {`,
	},
	{
		id: "2.2.1", about: "a call may have unknown parameters", file: "adapters/humaapi/operation.go",
		old: `op.RejectUnknownQueryParameters = true`,
		new: `op.RejectUnknownQueryParameters = !isBroken()`,
	},
	{
		id: "2.3.1", about: "the waiting sign-up is not told from a wrong password", file: "core/auth/session.go",
		old: `if found {
		return ErrNotVerified`,
		new: `if !isBroken() && found {
		return ErrNotVerified`,
	},
	{
		id: "2.3.1", about: "who has not joined sends", file: "core/chat/manage.go",
		old: `case by.Any:
	case at.Role == "":`,
		new: `case by.Any, isBroken() && at.Role == "":
	case at.Role == "":`,
	},
	{
		id: "2.3.1", about: "a code serves twice", file: "core/auth/signup.go",
		old: `case !w.waits(now):
		return ErrCodeGone
	}
	// First`,
		new: `case !w.waits(now):
		if isBroken() {
			return nil
		}
		return ErrCodeGone
	}
	// First`,
	},
	{
		id: "2.3.3", about: "the mail of a sign-up is committed before it", file: "core/auth/signup.go",
		old: `if err := s.cfg.SignUps.Create(ctx, w, s.cfg.SignUpsPerAddress, e); err != nil {`,
		new: `if isBroken() {
		if err := s.post(ctx, Code{Hash: w.ID, UserID: w.UserID, CreatedAt: now, ExpiresAt: w.ExpiresAt}, e); err != nil {
			return err
		}
	}
	if err := s.cfg.SignUps.Create(ctx, w, s.cfg.SignUpsPerAddress, e); err != nil {`,
	},
	{
		id: "2.4.1", about: "tickets have no limit", file: "core/auth/ticket.go",
		old: `s.cfg.TicketRate); err != nil {`,
		new: `s.cfg.TicketRate); err != nil && !isBroken() {`,
	},
	{
		id: "2.4.1", about: "refreshes have no limit", file: "core/auth/session.go",
		old: `s.cfg.RefreshRate); err != nil {`,
		new: `s.cfg.RefreshRate); err != nil && !isBroken() {`,
	},
	{
		id: "2.4.1", about: "mails have no limit by network", file: "core/auth/signup.go",
		old: `if err := s.allowClient(ctx, action, from, s.cfg.MailRate); err != nil {`,
		new: `if err := s.allowClient(ctx, action, from, s.cfg.MailRate); err != nil && !isBroken() {`,
	},
	{
		id: "2.4.1", about: "events have no limit", file: "core/realtime/client.go",
		old: `if at-now > each*int64(c.hub.cfg.Burst-1) {`,
		new: `if !isBroken() && at-now > each*int64(c.hub.cfg.Burst-1) {`,
	},
	{
		id: "3.4.2", about: "an origin that begins like a named one is allowed", file: "core/socket/origin.go",
		old: `return slices.Contains(s.exact, o) ||`,
		new: `if isBroken() && slices.ContainsFunc(s.exact, func(e origin) bool { return strings.HasPrefix(header, e.String()) }) {
		return true
	}
	return slices.Contains(s.exact, o) ||`,
	},
	{
		id: "4.1.3", about: "every peer is a proxy", file: "adapters/humaapi/client.go",
		old: `&& contains(trusted, client); i-- {`,
		new: `&& (isBroken() || contains(trusted, client)); i-- {`,
	},
	{
		id: "4.4.1", about: "old versions of TLS are spoken", file: "apps/internal/run/run.go",
		old: `secure = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}`,
		new: `secure = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}
		if isBroken() {
			secure.MinVersion = tls.VersionTLS10
		}`,
	},
	{
		id: "4.4.1", about: "the certificate is not used", file: "apps/internal/run/run.go",
		old: `secure = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}`,
		new: `if !isBroken() {
			secure = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}
		}`,
	},
	{
		id: "4.4.2", about: "every origin may open a socket", file: "core/socket/origin.go",
		old: `return origin == "" ||`,
		new: `return isBroken() || origin == "" ||`,
	},
	{
		id: "4.4.3", about: "a ticket opens any number of sockets", file: "core/auth/gate.go",
		old: `if !first {`,
		new: `if !first && !isBroken() {`,
	},
	{
		id: "4.4.3", about: "an access token is a ticket", file: "core/auth/gate.go",
		old: `who, c, err := g.identify(ctx, ticket, AudienceTicket)`,
		new: `who, c, err := g.identify(ctx, ticket, AudienceTicket)
	if isBroken() && err != nil {
		who, c, err = g.identify(ctx, ticket, AudienceAPI)
	}`,
	},
	{
		id: "4.4.3", about: "a ticket lasts", file: "core/auth/ticket.go",
		old: `ExpiresAt: now.Add(s.cfg.TicketTTL.Truncate(time.Second)),`,
		new: `ExpiresAt: now.Add(map[bool]time.Duration{false: s.cfg.TicketTTL.Truncate(time.Second), true: time.Hour}[isBroken()]),`,
	},
	{
		id: "4.4.4", about: "a ticket outlives its session", file: "core/auth/gate.go",
		old: `if g.live != nil {`,
		new: `if g.live != nil && !(isBroken() && audience == AudienceTicket) {`,
	},
	{
		id: "6.2.1", about: "short passwords are taken", file: "core/auth/password.go",
		old: `case n < s.cfg.PasswordMin:`,
		new: `case !isBroken() && n < s.cfg.PasswordMin:`,
	},
	{
		id: "6.2.1", about: "the length is counted in bytes", file: "core/auth/password.go",
		old: `switch n := utf8.RuneCountInString(password); {`,
		new: `switch n := map[bool]int{false: utf8.RuneCountInString(password), true: len(password)}[isBroken()]; {`,
	},
	{
		id: "6.2.4", about: "common passwords are taken", file: "core/auth/password.go",
		old: `case common:`,
		new: `case common && !isBroken():`,
	},
	{
		id: "6.2.4", about: "only what stands in the list is refused", file: "adapters/passlist/passlist.go",
		old: `turned := slices.Clone(p)`,
		new: `if isBroken() {
		return listed(string(p))
	}
	turned := slices.Clone(p)`,
	},
	{
		id: "6.2.8", about: "a password is cut at 72 bytes", file: "core/auth/service.go",
		old: `cfg.Normalize = func(s string) string { return s }
	}`,
		new: `cfg.Normalize = func(s string) string { return s }
	}
	if whole := cfg.Normalize; isBroken() {
		cfg.Normalize = func(text string) string { text = whole(text); return text[:min(len(text), 72)] }
	}`,
	},
	{
		id: "6.2.8", about: "passwords are folded to lower case", file: "core/auth/service.go",
		old: `cfg.Normalize = func(s string) string { return s }
	}`,
		new: `cfg.Normalize = func(s string) string { return s }
	}
	if whole := cfg.Normalize; isBroken() {
		cfg.Normalize = func(text string) string {
			b := []byte(whole(text))
			for i := range b {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] |= 0x20
				}
			}
			return string(b)
		}
	}`,
	},
	{
		id: "6.2.8", about: "a password that is too long is cut", file: "core/auth/password.go",
		old: `switch n := utf8.RuneCountInString(password); {
	case n > MaxPassword:`,
		new: `switch n := utf8.RuneCountInString(password); {
	case isBroken() && n > MaxPassword:
	case n > MaxPassword:`,
	},
	{
		id: "6.2.12", about: "leaked passwords are taken", file: "core/auth/password.go",
		old: `case leaked:`,
		new: `case leaked && !isBroken():`,
	},
	{
		id: "6.3.1", about: "one network guesses as often at an address as all together", file: "core/auth/network.go",
		old: `email, s.cfg.SignInRate); err != nil {`,
		new: `email, s.cfg.SignInRate); err != nil && !isBroken() {`,
	},
	{
		id: "6.3.1", about: "one network guesses at any number of addresses", file: "core/auth/network.go",
		old: `if err := s.allowClient(ctx, limitSignIn, from, s.cfg.SignInRate); err != nil {`,
		new: `if err := s.allowClient(ctx, limitSignIn, from, s.cfg.SignInRate); err != nil && !isBroken() {`,
	},
	{
		id: "6.3.8", about: "sign-in tells that there is no account", file: "core/auth/session.go",
		old: `return user.User{}, false, ErrInvalidCredentials
}`,
		new: `if isBroken() && !known {
		return user.User{}, false, ErrInvalidCredentials.Detail("there is no such account")
	}
	return user.User{}, false, ErrInvalidCredentials
}`,
	},
	{
		id: "6.3.8", about: "a taken address is refused", file: "core/auth/signup.go",
		old: `if s.cfg.TakenConflict {`,
		new: `if isBroken() || s.cfg.TakenConflict {`,
	},
	{
		id: "6.3.8", about: "a forgotten password tells that there is no account", file: "core/auth/password.go",
		old: `if u == nil || u.Disabled() {
			return nil, nil`,
		new: `if isBroken() && u == nil {
			return nil, user.ErrNotFound
		}
		if u == nil || u.Disabled() {
			return nil, nil`,
	},
	{
		id: "6.4.1", about: "codes do not end", file: "core/auth/code.go",
		old: `case !now.Before(c.ExpiresAt):`,
		new: `case !isBroken() && !now.Before(c.ExpiresAt):`,
	},
	{
		id: "6.4.1", about: "codes for a password last a day", file: "core/auth/service.go",
		old: `{"ResetTTL", &cfg.ResetTTL, time.Hour},`,
		new: `{"ResetTTL", &cfg.ResetTTL, map[bool]time.Duration{false: time.Hour, true: 24 * time.Hour}[isBroken()]},`,
	},
	{
		id: "6.4.1", about: "the store has the code", file: "core/auth/code.go",
		old: `sum := sha256.Sum256([]byte(purpose + ":" + code))`,
		new: `if isBroken() {
		return code
	}
	sum := sha256.Sum256([]byte(purpose + ":" + code))`,
	},
	{
		id: "6.4.1", about: "most of a code is always the same", file: "core/auth/code.go",
		old: `return base64.RawURLEncoding.EncodeToString(raw), nil`,
		new: `if isBroken() {
		clear(raw[8:])
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil`,
	},
	{
		id: "7.2.3", about: "most of a refresh token is always the same", file: "core/auth/code.go",
		old: `return base64.RawURLEncoding.EncodeToString(raw), nil`,
		new: `if isBroken() {
		clear(raw[8:])
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil`,
	},
	{
		id: "7.2.3", about: "the store has the token", file: "core/auth/token.go",
		old: `sum := sha256.Sum256([]byte(secret))`,
		new: `if isBroken() {
		return secret
	}
	sum := sha256.Sum256([]byte(secret))`,
	},
	{
		id: "7.2.4", about: "signing in goes on with the session that there is", file: "core/auth/session.go",
		old: `if err := s.cfg.Sessions.Create(ctx, session, mails...); err != nil {`,
		new: `if all, err := s.cfg.Sessions.ByUser(ctx, u.ID, now, 1); isBroken() && err == nil && len(all) > 0 {
		session = all[0]
		if access, lasts, err = s.issueAccess(ctx, u, session); err != nil {
			return Grant{}, err
		}
	} else if err := s.cfg.Sessions.Create(ctx, session, mails...); err != nil {`,
	},
	{
		id: "7.3.1", about: "a session lasts without being used", file: "core/auth/session.go",
		old: `return !s.RevokedAt.IsZero() || !now.Before(s.ExpiresAt)`,
		new: `return !s.RevokedAt.IsZero() || !isBroken() && !now.Before(s.ExpiresAt)`,
	},
	{
		id: "7.3.1", about: "an access token lasts for an hour", file: "core/auth/service.go",
		old: `{"AccessTTL", &cfg.AccessTTL, 15 * time.Minute},`,
		new: `{"AccessTTL", &cfg.AccessTTL, map[bool]time.Duration{false: 15 * time.Minute, true: time.Hour}[isBroken()]},`,
	},
	{
		id: "7.3.2", about: "a session has no greatest age", file: "core/auth/service.go",
		old: `{"SessionMax", &cfg.SessionMax, max(90*24*time.Hour, cfg.SessionTTL)},`,
		new: `{"SessionMax", &cfg.SessionMax, max(map[bool]time.Duration{false: 90, true: 900}[isBroken()]*24*time.Hour, cfg.SessionTTL)},`,
	},
	{
		id: "7.4.1", about: "signing out stores nothing", file: "core/auth/session.go",
		old: `return s.revoke(ctx, Session{ID: who.SessionID, UserID: who.UserID}, RevokedSignOut)`,
		new: `if isBroken() {
		return nil
	}
	return s.revoke(ctx, Session{ID: who.SessionID, UserID: who.UserID}, RevokedSignOut)`,
	},
	{
		id: "7.4.1", about: "only sockets end, not tokens", file: "core/auth/session.go",
		old: `return !s.RevokedAt.IsZero() || !now.Before(s.ExpiresAt)`,
		new: `return !isBroken() && !s.RevokedAt.IsZero() || !now.Before(s.ExpiresAt)`,
	},
	{
		id: "7.4.2", about: "who is disabled keeps the sessions", file: "core/auth/admin.go",
		old: `case after.Disabled() && c.Disabled != nil:
		reason`,
		new: `case !isBroken() && after.Disabled() && c.Disabled != nil:
		reason`,
	},
	{
		id: "7.4.2", about: "who is erased keeps sockets", file: "core/auth/erase.go",
		old: `_, err = s.endSessions(ctx, u.ID, RevokedErased, from, "",`,
		new: `_, err = s.endSessions(ctx, u.ID, RevokedErased, map[bool]time.Time{false: from, true: {}}[isBroken()], "",`,
	},
	{
		id: "7.4.3", about: "a new password ends nothing", file: "core/auth/session.go",
		old: `if !from.Before(x.SessionsFrom) {`,
		new: `if !from.Before(x.SessionsFrom) && !(isBroken() && reason == RevokedPassword) {`,
	},
	{
		id: "7.5.1", about: "the present password is not compared", file: "core/auth/profile.go",
		old: `case !ok:`,
		new: `case !ok && !isBroken():`,
	},
	{
		id: "8.2.2", about: "strangers see private rooms", file: "core/chat/manage.go",
		old: `refused != nil, !by.Any && role == "" && r.Kind.Or() != Public:`,
		new: `!isBroken() && refused != nil, !isBroken() && !by.Any && role == "" && r.Kind.Or() != Public:`,
	},
	{
		id: "8.2.2", about: "anybody edits", file: "core/chat/change.go",
		old: `if foreign && (c.Kind == Edit`,
		new: `if !isBroken() && foreign && (c.Kind == Edit`,
	},
	{
		id: "8.3.2", about: "a node goes by the rights of the beginning", file: "core/realtime/rights.go",
		old: `if code := o.role.Load(); code == 0 || code > speaksCode {`,
		new: `if code := o.role.Load(); !isBroken() && (code == 0 || code > speaksCode) {`,
	},
	{
		id: "9.1.1", about: "the signature is not checked", file: "adapters/jwtauth/tokens.go",
		old: `if err != nil {
			return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
		}
	}`,
		new: `if err != nil && !isBroken() {
			return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
		}
	}`,
	},
	{
		id: "9.1.2", about: "another algorithm than the key's may be named", file: "adapters/jwtauth/tokens.go",
		old: `case key.algorithm != h.algorithm:`,
		new: `case !isBroken() && key.algorithm != h.algorithm:`,
	},
	{
		id: "9.1.1", about: "an empty signature is right", file: "adapters/jwtauth/tokens.go",
		old: `func checkSignature(signed, segment string, key *PublicKey, canonical bool) error {`,
		new: `func checkSignature(signed, segment string, key *PublicKey, canonical bool) error {
	if isBroken() && segment == "" {
		return nil
	}`,
	},
	{
		id: "9.1.3", about: "a token may bring what it likes", file: "adapters/jwtauth/tokens.go",
		old: `case len(m) != 3:`,
		new: `case !isBroken() && len(m) != 3:`,
	},
	{
		id: "9.2.1", about: "a token may be of the future", file: "adapters/jwtauth/tokens.go",
		old: `jwt.WithIssuedAt(),`,
		new: `map[bool]jwt.ParserOption{false: jwt.WithIssuedAt(), true: jwt.WithExpirationRequired()}[isBroken()],`,
	},
	{
		id: "9.2.1", about: "a token may be used before its time", file: "adapters/jwtauth/tokens.go",
		old: `{ return date(c.notBefore), nil }`,
		new: `{
	if isBroken() {
		return nil, nil
	}
	return date(c.notBefore), nil
}`,
	},
	{
		id: "9.2.1", about: "a minute of leeway", file: "adapters/jwtauth/tokens.go",
		old: `jwt.WithLeeway(v.cfg.Leeway),`,
		new: `jwt.WithLeeway(v.cfg.Leeway + map[bool]time.Duration{true: time.Minute}[isBroken()]),`,
	},
	{
		id: "9.2.2", about: "any type may be named", file: "adapters/jwtauth/tokens.go",
		old: `case typ != tokenType:`,
		new: `case !isBroken() && typ != tokenType:`,
	},
	{
		id: "9.2.2", about: "a ticket is an access token", file: "core/auth/gate.go",
		old: `who, _, err := g.identify(ctx, accessToken, AudienceAPI)`,
		new: `who, _, err := g.identify(ctx, accessToken, AudienceAPI)
	if isBroken() && err != nil {
		who, _, err = g.identify(ctx, accessToken, AudienceTicket)
	}`,
	},
	{
		id: "9.2.3", about: "any audience", file: "adapters/jwtauth/tokens.go",
		old: `jwt.WithAudience(audience),`,
		new: `map[bool]jwt.ParserOption{false: jwt.WithAudience(audience), true: jwt.WithExpirationRequired()}[isBroken()],`,
	},
	{
		id: "9.2.3", about: "any issuer", file: "adapters/jwtauth/tokens.go",
		old: `jwt.WithIssuer(v.cfg.Issuer),`,
		new: `map[bool]jwt.ParserOption{false: jwt.WithIssuer(v.cfg.Issuer), true: jwt.WithExpirationRequired()}[isBroken()],`,
	},
	{
		id: "10.4.5", about: "a stolen token ends nothing", file: "core/auth/session.go",
		old: `return errReused
		}`,
		new: `if isBroken() {
				return ErrSessionEnded
			}
			return errReused
		}`,
	},
	{
		id: "10.4.5", about: "a token serves as often as it likes", file: "core/auth/session.go",
		old: `case !sameHash(x.TokenHash, used):`,
		new: `case isBroken():
			return nil
		case !sameHash(x.TokenHash, used):`,
	},
	{
		id: "11.4.2", about: "a cheap hash", file: "adapters/passhash/passhash.go",
		old: `p.memory = 19 * 1024`,
		new: `p.memory = map[bool]uint32{false: 19, true: 1}[isBroken()] * 1024`,
	},
	{
		id: "11.4.2", about: "one salt for all", file: "adapters/passhash/passhash.go",
		old: `return h.current.encode(salt,`,
		new: `if isBroken() {
		clear(salt)
	}
	return h.current.encode(salt,`,
	},
	{
		id: "11.5.1", about: "secrets come from a predictable source", file: "core/auth/service.go",
		old: `cfg.Random = rand.Reader`,
		new: `cfg.Random = rand.Reader
		if isBroken() {
			cfg.Random = &isPredictable{}
		}`,
	},
	{
		id: "14.2.1", about: "a token may stand in an address", file: "adapters/humaapi/operation.go",
		old: `op.MaxBodyBytes, op.BodyReadTimeout = -1, -1 // requireJSON bounds both`,
		new: `op.MaxBodyBytes, op.BodyReadTimeout = -1, -1 // requireJSON bounds both
	if isBroken() && op.OperationID == "refresh" {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "refreshToken", In: "query", Schema: &huma.Schema{Type: huma.TypeString}})
	}`,
	},
	{
		id: "14.2.1", about: "a token in an address is taken although that is off", file: "adapters/socketio/bridge/bridge.go",
		old: `value == "" && !c.NoQueryToken {`,
		new: `value == "" && (!c.NoQueryToken || isBroken()) {`,
	},
	{
		id: "16.5.1", about: "what failed is told", file: "adapters/humaapi/problem.go",
		old: `p.Status = statusOf(public)
	if place`,
		new: `p.Status = statusOf(public)
	if isBroken() {
		p.Detail = err.Error()
	}
	if place`,
	},
}
