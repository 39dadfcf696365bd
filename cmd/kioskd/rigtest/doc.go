// Package rigtest plays the kiosk with real parts: kioskd and the simulated
// platform as processes, pcscd with a virtual reader, nginx with mutual TLS
// between them, and a proxy that breaks the line. Processes are killed, cards
// torn, services restarted, a disk filled at random moments; what counts in the
// end is what card, meter and platform remember.
//
// It has no code outside its tests, which need the tag rig and what `make deps`
// installs: make rig.
package rigtest
