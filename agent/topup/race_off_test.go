//go:build !race

package topup

const raceEnabled = false
