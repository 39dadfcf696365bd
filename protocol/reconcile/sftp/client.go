package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Config says where the files go. Address, User, KeyFile and KnownHosts are
// required.
type Config struct {
	Address    string // host:port
	User       string
	KeyFile    string // private key in OpenSSH's or PEM form, without a passphrase, mode 0600
	KnownHosts string // OpenSSH's form; nobody but its owner may write it
	// Step is how long one step may take (connect, one command, 32 KB of a
	// file); default 30 s.
	Step time.Duration
}

// Client puts and gets whole files. Each call has a connection of its own;
// calls may run at the same time, but not two Puts of one path.
type Client struct {
	c     Config
	key   ssh.Signer
	hosts ssh.HostKeyCallback
	types []string // algorithms of the pinned keys
}

// Errors. After any of them the same call may be made again; the first three
// will fail again until a person has changed something.
var (
	// ErrUnknownHost: known_hosts has no key for the host. Nothing was sent.
	ErrUnknownHost = errors.New("host key is not known")
	// ErrHostKey: the host has shown another key than the pinned ones. No file
	// name and no content was sent.
	ErrHostKey = errors.New("host key has changed")
	// ErrAuth: the server does not take this user with this key.
	ErrAuth = errors.New("server refuses user or key")
	// ErrRefused: the server answered a command with an error.
	ErrRefused = errors.New("server refuses")
	// ErrLost: the connection could not be made or was lost, or a step took too
	// long. A rename may have happened: the next Put finds out.
	ErrLost = errors.New("connection lost")
	// ErrTooLarge: the file on the server is larger than the limit.
	ErrTooLarge = errors.New("file is too large")
)

const maxKeyFile = 64 << 10

// New reads and checks key and known hosts; nothing is connected yet. Its errors
// say what to change, and where.
func New(c Config) (*Client, error) {
	if c.Step <= 0 {
		c.Step = 30 * time.Second
	}
	if host, port, err := net.SplitHostPort(c.Address); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("address %.100q: want host:port", c.Address)
	}
	if c.User == "" {
		return nil, errors.New("user: missing")
	}
	s := &Client{c: c}
	var err error
	if s.key, err = readKey(c.KeyFile); err != nil {
		return nil, fmt.Errorf("key_file: %w", err)
	}
	if err := private(c.KnownHosts, 0o022, "chmod go-w"); err != nil {
		return nil, fmt.Errorf("known_hosts: %w", err)
	}
	if s.hosts, err = knownhosts.New(c.KnownHosts); err != nil {
		return nil, fmt.Errorf("known_hosts: %w", err)
	}
	if s.types, err = s.pinned(); err != nil {
		return nil, err
	}
	return s, nil
}

// private refuses a file whose mode has one of the bits.
func private(path string, bits os.FileMode, advice string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	if st.Mode().Perm()&bits != 0 {
		return fmt.Errorf("%s has mode %04o, too open; %s %s", path, st.Mode().Perm(), advice, path)
	}
	return nil
}

func readKey(path string) (ssh.Signer, error) {
	if err := private(path, 0o077, "chmod 600"); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := ssh.ParsePrivateKey(b)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, fmt.Errorf("%s has a passphrase, and nobody is there to type it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a private key", path) // never what is in it
	}
	return key, nil
}

// pinned are the algorithms to ask the host for: of the keys that are pinned,
// and no others. Without that a server with several keys shows the type it
// likes best and looks like another host.
func (s *Client) pinned() ([]string, error) {
	err := s.hosts(s.c.Address, &net.TCPAddr{IP: net.IPv4zero}, noKey{})
	want, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok || len(want.Want) == 0 {
		return nil, fmt.Errorf("%s has no key for %s; get its host key from whoever runs it, not from the network: %w",
			s.c.KnownHosts, knownhosts.Normalize(s.c.Address), ErrUnknownHost)
	}
	var types []string
	for _, k := range want.Want {
		if t := k.Key.Type(); t == ssh.KeyAlgoRSA {
			types = append(types, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256) // never SHA-1
		} else {
			types = append(types, t)
		}
	}
	return types, nil
}

// noKey is a key no host has; it asks known_hosts what it would take.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// connect opens an SSH connection within one step. refused is what the host key
// check had to say.
func (s *Client) connect(ctx context.Context) (conn net.Conn, client *ssh.Client, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.Step)
	defer cancel()
	conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", s.c.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w: %w", ErrLost, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var refused error
	sc, chans, reqs, err := ssh.NewClientConn(conn, s.c.Address, &ssh.ClientConfig{
		User: s.c.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.key)}, HostKeyAlgorithms: s.types,
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			refused = s.check(host, remote, key)
			return refused
		},
	})
	if err == nil && !stop() {
		err = ctx.Err() // closed under us
	}
	if err != nil {
		_ = conn.Close()
	}
	switch {
	case err == nil:
		return conn, ssh.NewClient(sc, chans, reqs), nil
	case refused != nil:
		return nil, nil, refused
	case ctx.Err() != nil:
		return nil, nil, fmt.Errorf("connect: %w: no session within %v", ErrLost, s.c.Step)
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return nil, nil, fmt.Errorf("%s has none of the key types pinned for it (%s): %w", s.c.Address, strings.Join(s.types, ", "), ErrHostKey)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return nil, nil, fmt.Errorf("%s at %s, key %s: %w", s.c.User, s.c.Address, ssh.FingerprintSHA256(s.key.PublicKey()), ErrAuth)
	}
	return nil, nil, fmt.Errorf("connect: %w: %w", ErrLost, err)
}

// check holds the host's key against the pinned ones.
func (s *Client) check(host string, remote net.Addr, key ssh.PublicKey) error {
	err := s.hosts(host, remote, key)
	if err == nil {
		return nil
	}
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	if _, revoked := errors.AsType[*knownhosts.RevokedError](err); revoked {
		return fmt.Errorf("%s has shown %s, which known_hosts has revoked: %w", host, shown, ErrHostKey)
	}
	if want, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(want.Want) > 0 {
		var pinned []string
		for _, k := range want.Want {
			pinned = append(pinned, k.Key.Type()+" "+ssh.FingerprintSHA256(k.Key))
		}
		return fmt.Errorf("%s has shown %s, pinned is %s; ask whoever runs it before the pin is changed: %w",
			host, shown, strings.Join(pinned, ", "), ErrHostKey)
	}
	return fmt.Errorf("%s has shown %s: %w", host, shown, ErrUnknownHost)
}
