//go:build !sim

// Vccsim is built with the tag sim only: it is never shipped.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "vccsim: built without the simulators; build with -tags sim")
	os.Exit(1)
}
