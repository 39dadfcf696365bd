// Package simcard holds virtual cards, the reader slot they sit in, the faults
// a kiosk must survive, and the gas meter at the customer's home.
//
// Everything here is a simulator: it is imported by tests, by the simulated
// world and by the simulator command, never by a program that is shipped. The
// cards keep their own DES code and their own reading of the card papers, so
// that a mistake in the kiosk's drivers does not hide behind the same mistake
// here.
//
// # What is where
//
//   - [Purse] is a PBOC electronic purse with online load, [SLE4442] a memory
//     card behind the pseudo-APDUs of an ACS reader. Both live on when they
//     leave a slot: non-volatile state stays, PIN, PSC and a running load are
//     lost with the power.
//   - [Fault] is armed on a card with Arm: the n-th APDU tears, mutes, slows,
//     swaps or lies. Any other card gets the same by [NewFaulty].
//   - [Slot] is an in-process reader made of channels only, so that it works
//     inside testing/synctest bubbles. Make it inside the bubble.
//   - [Dial] is the card end of the vpcd protocol, for real processes.
//   - [Meter] takes the gas from a memory card and remembers what it took.
//
// # Judges
//
// Loads, Balance, Image, History, Visits and the like are for judges that look
// at the card from outside. All of them may be called at any time from any
// goroutine; they return copies.
package simcard
