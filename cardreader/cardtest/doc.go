// Package cardtest is the suite every reader driver passes, and the transcript
// of a conversation with a card: recorded once on a real card, replayed for ever
// without one.
//
// The suite says what a driver owes its callers. The kiosk's safety rests on
// these lines, so a driver that cannot keep one of them does not get an
// exception; it gets a nil function in its [Rig] only where its hardware has no
// such event at all.
package cardtest
