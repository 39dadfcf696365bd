// Package conform asks a platform that claims the protocol which readings of
// the document it follows, and whether it keeps the contract.
//
// Requirements
//   - What a reading is, is found by trying, one question at a time, with a test
//     key; calls are few, slow (Config.Rate) and getToken is guarded as the
//     kiosk guards its own.
//   - A case is data (package files in cases/, or the user's own): calls, what
//     may be answered, and which answer would be unsafe. docs/conformance.md has
//     the format.
//   - Cases that move money run only on a card and orders that were named for
//     it. Nothing is loaded: no card is written, orders are given back where the
//     contract lets them be.
//   - No secret and no text of the platform's reaches the report.
//
// It speaks by hand, over package protocol's sign and catalogue: a client that
// corrects or refuses what it sends could not ask wrongly.
//
// Layout: caller.go one HTTP request, session.go how a session is opened,
// readings.go the questions about signs, answers.go the others, case.go the
// format of a case, run.go one case, money.go and purse.go test card and
// orders, report.go the whole and its tables.
package conform
