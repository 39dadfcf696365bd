package localapi

// What the outside tests need of the inside.
var (
	Masked   = masked
	DialWith = dialWith
)
