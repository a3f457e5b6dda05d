package main

import (
	"errors"
	"io"
	"net"
)

// Why a connection or a stream ended, in a form that tests compare.
type failure struct {
	Kind   string `json:"kind"` // application, transport, idle, reset, local
	Code   uint64 `json:"code"`
	Remote bool   `json:"remote"`
	Text   string `json:"text"`
}

// Transport error codes 0x100 to 0x1ff are TLS alerts (RFC 9001, section 4.8).
func describe(err error) *failure {
	f := &failure{Kind: "local", Text: err.Error()}
	fillFailure(err, f)
	return f
}

func endOf(err error) (string, uint64, *failure) {
	if errors.Is(err, io.EOF) {
		return "fin", 0, nil
	}
	if code, isReset := streamReset(err); isReset {
		return "reset", code, nil
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout", 0, nil
	}
	return "closed", 0, describe(err)
}
