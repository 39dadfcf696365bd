// Package vcctest is the VCC platform as an http.Handler, the way
// net/http/httptest is a server: for tests, for the simulated world and for
// vccsim. It keeps books of cards, orders, authorisations and reports, checks
// signs, MAC1 and TAC, and answers the money calls 3010, 4006, 6002, 6003 and
// 6006 besides 1001, 1002, 3019, 6004 and 6005.
//
// It is written from the documents with its own canonical string, its own sign
// and its own card cryptography: it imports nothing of package protocol, so a
// reading that both got wrong the same way is at least wrong twice.
//
// A Platform with Options.Good keeps the six clauses of the platform contract
// exactly. Without it the Platform is the worst plausible one (WorstLapses);
// each lapse can also be set alone on a good platform. What the Platform broke
// is told by Conflicts, from its own memory and never from what a kiosk said.
//
// The contract, in short:
//
//  1. 4006 is idempotent over (termTransNo, orderNo, cardNo, amount, kind,
//     onlineSeq or count).
//  2. An order authorised under one number is refused to another until given
//     back, or until the card itself (its sequence and log, with the newest
//     challenge) shows that the holder's authorisation is used up or dead.
//  3. A give-back of a number not yet seen is a fence.
//  4. Expiry forbids the write; it does not release the order.
//  5. Reports are never forgotten; a late "written" after R is answered R.
//  6. A (card, count) pair of a memory card is issued to one order only.
package vcctest
