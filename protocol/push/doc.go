// Package push takes the platform's pushes 7001 to 7005: address, supply point,
// subscriber, meter and work order have changed.
//
// The platform pushes to an enterprise's server. A kiosk needs no push: it pulls
// by itself, and asks at each heartbeat. Where a kiosk has an address in a VPN,
// a push can spare it the wait. So a push says one thing only, "pull now", and
// nothing in it is believed: not its rows, which are counted and dropped, not
// its number, not its time. What a forger of pushes can gain is a pull.
//
// # The handshake
//
// Each request carries signature, timestamp and nonce in its query. signature is
// the hex SHA-1 of the three texts token, timestamp and nonce, sorted by byte
// and put together; token is a secret shared by both sides. A GET asks whether
// this is the right place: the answer is its echostr. A POST carries an event.
// The signature does not cover the body.
//
// # What is refused
//
//   - a timestamp more than 300 s away, a signature that does not fit, one that
//     was seen before (403)
//   - more than 20 at once or one in 3 s (429)
//   - a body over 64 KB, not JSON, too deep, a name twice, a field of another
//     form (400), the organisation of somebody else (403)
//
// An event whose eventId is among the last 1,024 is answered like the first
// time and wakes nobody. What is remembered for this is in memory: a restart
// lets a captured push through once more, which costs one pull.
//
// # Not here
//
// TLS: the listener is bound to a loopback or private address, and what lies
// between must be a VPN or a proxy that ends TLS. Delivery: a push that is lost
// or refused is made up for by the next pull.
package push
