//go:build race

package simtest

// racing: the race detector slows a world down tenfold, so it gets a sample of
// them; the full numbers are the ordinary run's.
const racing = true
