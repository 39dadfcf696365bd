// Package cardtest is the suite every reader driver passes. It plays with virtual
// cards; what of it a person can play with a reader on a cable and a card of
// plastic is cardreader/qualify.
//
// The suite says what a driver owes its callers. The kiosk's safety rests on
// these lines, so a driver that cannot keep one of them does not get an
// exception; it gets a nil function in its [Rig] only where its hardware has no
// such event at all.
package cardtest
