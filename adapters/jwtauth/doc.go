// Package jwtauth makes and checks access tokens as JSON Web Tokens (RFC 7519) in the profile of
// RFC 9068, signed with EdDSA (Ed25519, RFC 8037), ES256 or PS256 (RFC 7518): the ports [auth.TokenIssuer] and [auth.TokenVerifier].
// It uses golang-jwt v5.3.
//
// A token has the header members alg, kid and typ (at+jwt), and the claims iss, aud, sub,
// name, sid, jti, iat and exp; times are whole seconds.
//
// # Guarantees
//
// [Keys] has one key that signs, at most one that is about to, and any number of older ones that still verify. [Keys.Rotate]
// makes a new key while tokens of the old one live on; [Keys.Keep] does it by age, and takes up what other processes did. The key file
// appears whole or not at all; of several processes that start at once on an empty folder all use the same key, and of several that rotate at
// once one makes a key.
//
// A [PublicKey] verifies its own algorithm, whatever a token says. Of the two signatures that are right by ES256, one is made and accepted.
//
// [Verifier] accepts exactly what [Issuer] makes: three segments of canonical base64url within
// [MaxToken] bytes; a header of alg, kid and typ and nothing else, so that no token brings its own
// key (jwk, jku, x5c) or rules (crit); no member twice, in no other spelling; one audience, the one
// asked for; a known key; and a time at which it is valid. Everything else is auth.ErrTokenInvalid,
// with the reason for logs only. Claims that it does not know are ignored.
//
// [RemoteKeys] are the keys that another process publishes as a JWK Set (RFC 7517), for who only
// verifies. A key that was fetched is good while the set cannot be had. A kid that is not known makes
// the set be fetched, at most once in a stated time; where that fails the error is of kind
// Unavailable, and not auth.ErrTokenInvalid.
//
// [OpenIDVerifier] accepts access tokens of one other issuer, whose keys it finds by OpenID Connect Discovery 1.0. It is as strict about
// the form of a token, and takes of its claims what is configured.
//
// # Exceptions
//
// The type is compared as it is written: "application/at+jwt" and capitals, which RFC 9068 allows
// too, are refused by [Verifier], and so is a list as the audience; [OpenIDVerifier] takes both. It also takes both signatures that are right by ES256, since
// other issuers make either: one is as good as the other, and says the same.
//
// # Closing
//
// There is nothing to close.
package jwtauth
