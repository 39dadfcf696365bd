package simcard

import (
	"net"
	"syscall"
)

// quickAck makes the kernel acknowledge what arrives at once. pcscd's vpcd
// writes a frame's length and body separately with Nagle's algorithm on, and
// waits for the acknowledgement of the first: 44 ms per APDU without this. The
// option does not last, so it is set before every read; an error costs time only.
func quickAck(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
}
