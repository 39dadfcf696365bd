// Package pcsc drives a card reader through PC/SC: pcscd, its library libpcsclite, and github.com/ebfe/scard.
//
// With the tags `cgo` and `pcsc` it reaches the library; without them it has the same names and New fails with ErrNotBuilt,
// so that everything else builds on a machine without a C compiler. All logic is outside the tag, above the interfaces of
// library.go, and is tested without PC/SC.
//
// # Goroutines and contexts
//
//   - One goroutine waits for the reader, in a PC/SC context of its own, from New to Close. Next only reads what it found
//     out. There must not be two: scard keeps the C strings of a running wait in a map by reader name, and a second wait on
//     the same name frees the first one's. So a process has one Reader per PC/SC reader.
//   - Every Session has its own context and its own goroutine, which makes all calls for this card one after the other. A
//     call that does not come back is left to that goroutine; whoever waited for it goes on with ErrStuck. The reader is
//     free again when the call has returned and the goroutine has given the card back.
//
// Waits are bounded to some seconds, so that nothing depends on a Cancel, which PC/SC loses when nobody waits at that moment;
// Close repeats it until the wait is over.
//
// # What the codes mean
//
// code.go holds the map from PC/SC codes to the errors of package cardreader. Behind it are these facts, seen with pcscd
// 1.9.9:
//
//   - A context never recovers from the death of pcscd, and says of itself that it is valid. It is given back and made anew.
//   - A card torn out during a command gives an empty answer and no error. If another card is put in before the next poll
//     (400 ms), the same handle goes on with that card. So an empty answer, like every error, ends the Session.
//   - A card removed between commands gives 80100016 first and 80100069 after the next poll; Status and Reconnect still
//     succeed in between, and are therefore no proof that a card is there.
//   - When a reset fails because the card has just left, and a card is put in before the next poll, pcscd reports an empty
//     reader until the card is taken out. This driver never resets a card, but pcscd does when a program dies inside a
//     transaction. While the reader is said to be empty, the waiting goroutine therefore asks for power now and then.
//   - A wait on an unknown reader name returns at once, and a wait compares the event counter only if it is not zero: both
//     would make a loop that never sleeps, or that misses a card out and in again.
//
// # What the card is told
//
// Exclusive access, the transaction, commands, and "leave the card as it is" at the end. With protocol T=0 the last byte of
// a command with data and Le is not sent (ISO 7816-3: the card answers 61xx and is asked by GET RESPONSE); nothing else is
// changed, and nothing is sent twice.
package pcsc
