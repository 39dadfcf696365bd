// Package reconcile is the daily reconciliation (clause 3.6): the day file a
// kiosk makes of its own top-ups, the sum beside it, the platform's answer, and
// the comparison of both. It is pure: no I/O and no clock. Package
// reconcile/sftp carries the files.
//
// The platform's document has one half sentence on the subject. Names, columns
// and codes here are proposals and are data: Columns and Cases.
//
// # Files
//
//	QC_{deviceId}_{yyyyMMdd}.txt   ours: every top-up whose outcome belongs to that day
//	QC_{deviceId}_{yyyyMMdd}.sum   rows|amount|volume|sha256 of it, one line; written last
//	QR_{deviceId}_{yyyyMMdd}.txt   the platform's: what it has for that kiosk and day, in the same form
//	QR_{deviceId}_{yyyyMMdd}.sum   its sum; without a sum that fits an answer is not believed
//
// A day is 00:00 to 24:00 China Standard Time. A file always is the whole day:
// running a day again replaces it.
//
// # Form
//
// UTF-8 without a mark at the beginning, lines that end in LF, the first line
// names the columns, cells are parted by "|". A reader takes a mark and CRLF
// too, and finds columns by name. A cell holds no "|", "%" or control
// character: each of their bytes is written as "%" and two upper-case hex
// digits. Amounts are integers in fen, gas integers in 0.01 m³, times
// yyyyMMddHHmmss. A cell without a value is empty.
package reconcile
