//go:build race

package topup

const raceEnabled = true
