// Package keystore keeps the kiosk's base keys and its device secret.
package keystore
