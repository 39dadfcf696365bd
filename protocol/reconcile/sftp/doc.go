// Package sftp carries the files of the daily reconciliation to and from the
// platform's file server (clause 3.6). It knows nothing of what is in them.
//
// What it promises: a file never stands half under its final name. It is
// written beside it as NAME.HASH.tmp, read back whole, synced where the server
// can (fsync@openssh.com), and only then renamed. The name of the temporary
// file holds the hash of its content: what a connection that was cut may still
// write late is what belongs there anyway. A file that was cut short is gone on
// with by the next Put if what is there is a beginning of it.
//
// Without posix-rename@openssh.com the old file is removed before the new one
// takes its name: for a moment, or until the next Put if the line is cut just
// then, there is none. There is still never half a file.
//
// The server is known by the keys of a known_hosts file and by nothing else: a
// host that is not in it is not connected to, and a key that is not in it ends
// the connection before a file name or a byte of a file has been sent. Only the
// key types the file has for the host are asked for, so that a server with
// more keys shows the one that is pinned.
package sftp
