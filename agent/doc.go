// Package agent is the program inside a gas IC-card load kiosk: it joins cards, keys, the platform and storage. This
// page is the map of the whole module; read it first, keep it true.
//
// # What it must never do
//
// Lose a result, load an order twice, lose or leak a key, or stop serving because something small broke.
//
// # Packages
//
//	cmd/kioskd            the daemon: flags, configuration file, opening of hardware and files, exit codes
//	cmd/kioskctl          technician and support, over the unix socket; some subcommands work on the files
//	cmd/vccsim            platform, virtual cards and meter on real ports; the demo. Never shipped
//	  cmd/vccsim/conform  asks a platform which readings it follows and whether it keeps the contract
//	agent                 Parts, New, Run; one inserted card; the one door for a base key; deliver and settle
//	  agent/topup         PURE: Record, Decide (evidence -> verdict), Settle (answer -> consequence). No I/O, no clock
//	  agent/journal       top-up records: append-only versions over *bbolt.Tx
//	  agent/audit         catalogue of events and alarms, chained log over *bbolt.Tx
//	  agent/command       remote commands: which there are, the ledger of what was taken
//	  agent/registration  how far the registration with the platform has come, and why not further
//	  agent/daybook       how each day's reconciliation came out, in numbers
//	  agent/media         files that wait for upload: content in a folder, entries over *bbolt.Tx
//	  agent/chain         CRC and chain under every stored line, used by journal, audit and daybook
//	  agent/mirror        masked rows of 3001 to 3004 in a disposable file of its own; off by default
//	  agent/localapi      the unix sockets of operator and technician
//	  agent/doctor        what keeps a kiosk from serving, in words with the next step
//	  agent/metrics       the same for Prometheus
//	  agent/simtest       test-only world: cards, meter, platform, two kiosks, power switch; judged from outside
//	    simtest/judge     what became of an order, by the memories of card, meter and platform
//	  agent/archtest      fails the build when this map is broken
//	cardreader            contracts only: Reader, Session, Event, errors
//	  cardreader/apdu     command, response, status word as an error
//	  cardreader/epurse   PBOC electronic purse over a one-method Transmitter
//	  cardreader/memcard  SLE4442-class memory cards over the same Transmitter
//	  cardreader/pcsc     real readers, by pcscd; the only importer of the PC/SC binding (tags cgo and pcsc), else a stub
//	  cardreader/vpcd     the simulated reader (tag sim); a stub without the tag
//	  cardreader/simcard  virtual cards that can be torn, swapped, muted; the virtual meter
//	  cardreader/cardtest the suite every driver passes
//	  cardreader/qualify  what of it a person can play with a reader on a cable
//	  cardreader/transcript  what was said to a card, recorded and replayed
//	keystore              base keys (active, pending, previous) and sealing of records
//	protocol              signed client: sessions, catalogue, calls, error classes
//	  protocol/catalogue  every interface and field of the platform, as data
//	  protocol/sign       canonical string and sign
//	  protocol/push       pushes 7001 to 7005: decoder, handshake, listener; a push only says "pull now"
//	  protocol/signed     the one scheme for signed things: commands now; bundles, work orders, profiles
//	  protocol/reconcile  PURE: day file, its sum, the platform's answer, the comparison
//	    reconcile/sftp    carries the files; pinned host keys, never half a file under its name
//	  protocol/table      the text tables of the downloads, read row by row
//	  protocol/vcctest    the platform, written from the documents by its own code
//	queue                 agent.db's one writer and the durable outbox
//
// deploy has unit, package and what proves them; cmd/kioskd/rigtest plays with real processes and real peers.
//
// Room is kept for modem (key reset by SMS), protocol/keysms, agent/device and cmd/kioskkeys: the README's table says what is there.
//
// Imports go one way, cmd -> agent -> {cardreader, keystore, modem, protocol, queue}. The five never import each other or
// agent; what they share is *bbolt.Tx and the standard library. Simulators are imported by tests, agent/simtest and
// cmd/vccsim only. archtest and the linter's depguard rules hold this.
//
// # Files
//
// agent.db holds journal, outbox, audit, book of days, sequence blocks. queue.Writer.Do is the only caller of Update on it, and no
// card, modem or network I/O happens inside a transaction. keystore.db and its two header copies hold the keys and are
// never backed up. A bucket is touched by its own package alone; what must be atomic across packages is a function
// taking *bbolt.Tx, called inside one Do here. mirror.db, where it is wanted, belongs to agent/mirror: it may be deleted
// at any time and is pulled again.
//
// # A top-up's way
//
// One loop: observe, decide (pure), write intent, act, record. A restart enters the same loop with the record it finds;
// there is no recovery mode.
//
//	card            kiosk                          agent.db                     platform
//	 |                |                               |                            |
//	 |<-- read only --| identity, balance, log, image |                            |
//	 |                |-- undelivered reports of this card, live, one try -------->|
//	 |                | open record for this card? -> what does the card say? -> Decide -> report
//	 |                | gate: disk, clock, key, token, reader, outbox              |
//	 |                |-- 3010 with what was read -------------------------------->|
//	 |                |<------------------------------------ orders, challenge ----|
//	 |                | the customer chooses                                       |
//	 |                |== commit 1: Intent ==========>|                            |
//	 |<-- 80 50 ------| purse: identify again, init   |                            |
//	 |                |-- 4006 --------------------------------------------------->|
//	 |                |<---- MAC2 or image; every echoed field is compared --------|
//	 |                |== commit 2: Writing =========>|   cancel is honoured until here
//	 |<-- 80 52 ------| purse: this and nothing before it
//	 |<-- writes -----| image: identify again, write in the plan's order, read back
//	 |                | Decide                        |                            |
//	 |                |== commit 3: outcome + 6002 ==>|   "done, take your card"   |
//	 |                |-- 6002 --------------------------------------------------->|
//	 |                |<--------------------------------- S, R or P: acknowledged -|
//	 |                |-- settle and remove: rides on the next commit or 60 s -----|
//
// # Commit points
//
//	commit 1  Intent   a cut before: nothing happened anywhere. A cut after: the journal proves that no changing command
//	                   was sent, so at start the record becomes NotWritten and its 6002 is queued.
//	commit 2  Writing  a cut before: as after commit 1. A cut after: the card may have been written. Only the card (or
//	                   6006, the day file, a person) can tell; until then the record is open for this card.
//	commit 3  outcome  a cut before: as after commit 2. A cut after: the outcome is known and its report cannot be lost,
//	                   because both were one transaction.
//	later     Closed   a cut before: the report is sent once more and answered as a duplicate.
//
// What is reported is derived from the record when it is sent (docs/adr/0003). The card decides what happened, never an
// error value and never the balance (docs/adr/0002). What each answer leads to is the table of docs/contract.md.
//
// # Who runs
//
// Run starts the actors and waits for them: the writer's flush, the outbox's backlog, the card sessions, the rotator, the
// heartbeat. It returns when its context ends, or with an error after which only a new process can go on: a commit in
// doubt (exit code 70), a card call that never returned (75).
package agent
