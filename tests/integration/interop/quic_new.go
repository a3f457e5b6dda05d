//go:build !quicgo_old

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	quic "github.com/quic-go/quic-go"
)

// quic-go from 0.41 on, as in Debian 13.

func dial(ctx context.Context, address string, t *tls.Config) (connection, error) {
	return quic.DialAddr(ctx, address, t, config())
}

func sendDatagram(c connection, data []byte) error { return c.SendDatagram(data) }

func receiveDatagram(c connection) ([]byte, error) {
	return c.ReceiveDatagram(context.Background())
}

type (
	connection = quic.Connection
	stream     = quic.Stream
)

func config() *quic.Config {
	return &quic.Config{EnableDatagrams: true, MaxIdleTimeout: 20 * time.Second}
}

func cancelWrite(s stream, code uint64) { s.CancelWrite(quic.StreamErrorCode(code)) }
func cancelRead(s stream, code uint64)  { s.CancelRead(quic.StreamErrorCode(code)) }

func streamReset(err error) (uint64, bool) {
	var reset *quic.StreamError
	if errors.As(err, &reset) {
		return uint64(reset.ErrorCode), true
	}
	return 0, false
}

func fillFailure(err error, f *failure) {
	var application *quic.ApplicationError
	var transport *quic.TransportError
	var idle *quic.IdleTimeoutError
	var reset *quic.StatelessResetError
	switch {
	case errors.As(err, &application):
		f.Kind, f.Code = "application", uint64(application.ErrorCode)
		f.Remote, f.Text = application.Remote, application.ErrorMessage
	case errors.As(err, &transport):
		f.Kind, f.Code = "transport", uint64(transport.ErrorCode)
		f.Remote = transport.Remote
	case errors.As(err, &idle):
		f.Kind = "idle"
	case errors.As(err, &reset):
		f.Kind = "reset"
	}
}
