package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

type profile struct {
	key     *ecdsa.PrivateKey
	address string
	pins    [][]byte
	server  string // SHA-256 of the certificate that the server showed, hex
}

// mytunnel://KEY@HOST:PORT?pin=PIN#NAME
func parseProfile(text string) (*profile, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Scheme != "mytunnel" || u.User == nil {
		return nil, errors.New("the profile is no mytunnel:// URI with a key")
	}
	scalar, err := base64.RawURLEncoding.DecodeString(u.User.Username())
	if err != nil || len(scalar) != 32 {
		return nil, errors.New("the key of the profile is not base64url of 32 bytes")
	}
	p := &profile{key: keyOf(scalar), address: u.Host}
	for _, text := range strings.Split(u.Query().Get("pin"), ",") {
		pin, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(pin) != sha256.Size {
			return nil, errors.New("a pin of the profile is not base64url of 32 bytes")
		}
		p.pins = append(p.pins, pin)
	}
	return p, nil
}

func keyOf(scalar []byte) *ecdsa.PrivateKey {
	key := &ecdsa.PrivateKey{D: new(big.Int).SetBytes(scalar)}
	key.Curve = elliptic.P256()
	key.X, key.Y = key.Curve.ScalarBaseMult(scalar)
	return key
}

// The server knows the key alone; subject, issuer and dates are ignored by it.
func certificateOf(key *ecdsa.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "interop"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (p *profile) tlsConfig(alpn, identity string) (*tls.Config, error) {
	if alpn == "" {
		alpn = "mytunnel"
	}
	config := &tls.Config{
		ServerName:            "pinned.mytunnel.invalid",
		NextProtos:            []string{alpn},
		MinVersion:            tls.VersionTLS13,
		InsecureSkipVerify:    true, // the pin is checked instead, below
		VerifyPeerCertificate: p.verify,
	}
	key := p.key
	switch identity {
	case "", "profile":
	case "none":
		return config, nil
	case "random":
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown identity %q", identity)
	}
	certificate, err := certificateOf(key)
	if err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &certificate, nil
	}
	return config, nil
}

// Whoever the server is.
func (p *profile) note(raw [][]byte, _ [][]*x509.Certificate) error {
	first := sha256.Sum256(raw[0])
	p.server = hex.EncodeToString(first[:])
	return nil
}

// The chain must end in a certificate with the pinned key, and every link must hold.
func (p *profile) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	chain := make([]*x509.Certificate, len(raw))
	for i, der := range raw {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	if len(chain) < 2 {
		return fmt.Errorf("a chain of %d certificates: the appliance's CA is missing", len(chain))
	}
	for i := 0; i+1 < len(chain); i++ {
		if err := chain[i].CheckSignatureFrom(chain[i+1]); err != nil {
			return err
		}
	}
	_ = p.note(raw, nil)
	got := sha256.Sum256(chain[len(chain)-1].RawSubjectPublicKeyInfo)
	for _, pin := range p.pins {
		if bytes.Equal(pin, got[:]) {
			return nil
		}
	}
	return errors.New("the server's certificate does not match the pin")
}
