//go:build !linux

package simcard

import "net"

// quickAck exists on Linux only; elsewhere an APDU may take 44 ms.
func quickAck(net.Conn) {}
