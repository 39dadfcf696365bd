// Package protocol is the client of the platform: sessions, signs, sequence
// numbers, the calls a load kiosk needs, and what their errors mean.
//
// Requirements
//   - Every value is checked against the format of its field before it is
//     signed: the sign has no field boundaries (package sign).
//   - An answer is read strictly and compared with what was asked. What does not
//     fit is ErrTransport: for a call that moves money its outcome is unknown.
//   - ErrNotSent is promised only for what cannot have left this machine.
//   - No error, log line or String holds a token, a session key, a sign or the
//     base key, whatever the network stack or the platform puts into its text.
//   - One session at a time: one getToken in flight, renewed early, guarded
//     against storms, remembered with the generation of its key.
//
// Not required here: retries beyond the one a rejected token, a duplicate
// message or a fallback path asks for (the outbox retries, with stored state);
// what an answer means for a record (the agent decides).
//
// Layout: config.go and catalogue.go what can be configured, format.go the rule
// of every field, seq.go serials, token.go sessions, transport.go whom TLS
// trusts, exchange.go one HTTP request, decode.go strict JSON, client.go one
// call, dialect.go and selfservice.go a platform with other calls, money.go
// 4006, 6002 and 6003, query.go 3010, 3019, 6004 and 6006, device.go 6001 and
// 6005, mask.go secrets in an answer, errors.go the classes,
// verify.go signs of answers, cipher.go encrypted bodies, media.go, upload.go,
// sniff.go and fetch.go files.
//
// What an interruption leaves: a session lives in RAM only and is opened anew. A
// block of serials is reserved durably before its first use, so that a power cut
// skips numbers and repeats none. Nothing else is stored here.
package protocol
