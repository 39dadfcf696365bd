package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"time"

	"vcckiosk/protocol"
)

const (
	probeTime = 8 * time.Second
	// soon is how long before its end a certificate is spoken of.
	soon = 21 * 24 * time.Hour
)

// Resolver is what Network needs of DNS; *net.Resolver.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Network looks at the way to the platform: name, connection, certificate. It
// sends no request. Findings: dns, connection, tls; later ones are left out when
// an earlier one makes them pointless.
func Network(ctx context.Context, baseURL string, c protocol.TLSConfig, r Resolver) []Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	u, err := url.Parse(baseURL)
	if err != nil || u.Hostname() == "" {
		return []Finding{found("dns", Bad, "平台地址无效", "correct api.base_url in the configuration", "api.base_url is not an address")}
	}
	var out []Finding
	host := u.Hostname()
	if net.ParseIP(host) == nil {
		if _, err := r.LookupHost(ctx, host); err != nil {
			return append(out, found("dns", Bad, "域名无法解析", "check the data link (ip addr, ip route), then the DNS servers (resolvectl)",
				"the name %s cannot be resolved", host))
		}
		out = append(out, good("dns", "域名解析正常", "the name %s is resolved", host))
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return append(out, found("connection", Bad, "无法连接平台", "check the data link and SIM; ask whether the platform or a firewall is down",
			"no connection to %s: %s", net.JoinHostPort(host, port), cause(err)))
	}
	defer conn.Close()
	out = append(out, good("connection", "可以连接平台", "the platform's port answers"))
	if u.Scheme != "https" {
		return append(out, found("tls", Warn, "连接未加密（仅限本机测试）", "use https outside of tests", "the connection is not encrypted"))
	}
	return append(out, handshake(ctx, conn, host, c))
}

// cause is the innermost word of a network error: the outer ones repeat the
// address.
func cause(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

func handshake(ctx context.Context, conn net.Conn, host string, c protocol.TLSConfig) Finding {
	t, err := protocol.NewTransport(c)
	if err != nil {
		return found("tls", Bad, "证书配置有误", "correct ca_file, cert_file, key_file or pins in [api]", "%s", err)
	}
	cfg := t.TLSClientConfig.Clone()
	cfg.ServerName = host
	tc := tls.Client(conn, cfg)
	err = tc.HandshakeContext(ctx)
	if err == nil {
		leaf := tc.ConnectionState().PeerCertificates[0]
		if left := time.Until(leaf.NotAfter); left < soon {
			return found("tls", Warn, "平台证书即将到期", "tell the platform's operator", "the platform's certificate ends on %s", leaf.NotAfter.Format(time.DateOnly))
		}
		return good("tls", "平台证书有效", "the platform's certificate is trusted until %s", leaf.NotAfter.Format(time.DateOnly))
	}
	const clock = "if the clock is right, tell the platform's operator; never switch the check off"
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case errors.Is(err, protocol.ErrPin):
		return found("tls", Bad, "平台证书与固定的公钥不符", "the platform has changed its key, or somebody is in between: ask before changing pins",
			"the certificate is none of the pinned ones")
	case isInvalid && invalid.Reason == x509.Expired:
		return found("tls", Bad, "平台证书不在有效期内", clock, "the platform's certificate is not valid at this time")
	case isA[x509.UnknownAuthorityError](err):
		return found("tls", Bad, "平台证书不受信任", "ca_file must be the authority that issued it; else somebody is in between", "the certificate is of an authority that is not trusted")
	case isA[x509.HostnameError](err):
		return found("tls", Bad, "平台证书与域名不符", "compare api.base_url with the certificate", "the certificate is for another name than %s", host)
	}
	return found("tls", Bad, "TLS 握手失败", "ask the platform's operator which versions and client certificates it takes", "no TLS with the platform: %s", err)
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
