package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"time"
)

type streamJob struct {
	Chunks    []string `json:"chunks"`     // hex, each in packets of its own
	GapMs     int      `json:"gap_ms"`     // between chunks
	SendBytes int64    `json:"send_bytes"` // of pattern, behind the chunks
	Fin       bool     `json:"fin"`        // after what is sent
	Reset     *uint64  `json:"reset"`      // RESET_STREAM with this code instead
	Stop      *uint64  `json:"stop"`       // STOP_SENDING with this code after StopAfter bytes
	StopAfter int64    `json:"stop_after"`
	// Wait for the status byte before what follows the chunks.
	AfterStatus bool `json:"after_status"`
	TimeoutMs   int  `json:"timeout_ms"`
}

type streamResult struct {
	Received   string   `json:"received"` // the first 1024 bytes, hex
	Bytes      int64    `json:"bytes"`
	SHA256     string   `json:"sha256"`      // of all but the status byte
	SentSHA256 string   `json:"sent_sha256"` // of the pattern
	SentBytes  int64    `json:"sent_bytes"`  // of the pattern, as far as credit allowed
	End        string   `json:"end"`         // fin, reset, timeout, stopped, closed
	Code       uint64   `json:"code"`        // of a reset
	WriteError *failure `json:"write_error,omitempty"`
	Error      *failure `json:"error,omitempty"`
}

// A pattern without a short period: repeated or swapped packets change the checksum.
type pattern struct {
	state uint64
	left  int64
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > p.left {
		b = b[:p.left]
	}
	for i := range b {
		p.state = p.state*6364136223846793005 + 1442695040888963407
		b[i] = byte(p.state >> 56)
	}
	p.left -= int64(len(b))
	return len(b), nil
}

func runStream(conn connection, j *streamJob) streamResult {
	var res streamResult
	timeout := time.Duration(j.TimeoutMs) * time.Millisecond
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	// Later than the stream's deadline: what was written by then is to be told.
	ctx, cancel := context.WithTimeout(context.Background(), timeout+time.Second)
	defer cancel()
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		res.End = "closed"
		res.Error = describe(err)
		return res
	}
	_ = s.SetDeadline(time.Now().Add(timeout))
	status := make(chan struct{})
	written := make(chan error, 1)
	go func() { written <- write(s, j, &res, status) }()
	read(s, j, &res, status)
	select {
	case err = <-written:
		if err != nil {
			res.WriteError = describe(err)
		}
	case <-ctx.Done():
	}
	s.CancelRead(0)
	return res
}

func write(s stream, j *streamJob, res *streamResult, status <-chan struct{}) error {
	for i, text := range j.Chunks {
		chunk, err := hex.DecodeString(text)
		if err != nil {
			fatal("a chunk is no hex: %v", err)
		}
		if i > 0 && j.GapMs > 0 {
			// Lets the packet with the chunk before leave on its own.
			time.Sleep(time.Duration(j.GapMs) * time.Millisecond)
		}
		if _, err = s.Write(chunk); err != nil {
			return err
		}
	}
	if j.AfterStatus {
		<-status
	}
	if j.SendBytes > 0 {
		sum := sha256.New()
		source := &pattern{state: uint64(j.SendBytes), left: j.SendBytes}
		n, err := io.Copy(s, io.TeeReader(source, sum))
		res.SentBytes = n
		if err != nil {
			return err
		}
		res.SentSHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	if j.Reset != nil {
		cancelWrite(s, *j.Reset)
	} else if j.Fin {
		return s.Close()
	}
	return nil
}

func read(s stream, j *streamJob, res *streamResult, status chan<- struct{}) {
	const shown = 1024
	var head []byte
	sum := sha256.New()
	buf := make([]byte, 64*1024)
	for {
		n, err := s.Read(buf)
		if n > 0 {
			data := buf[:n]
			if len(head) < shown {
				head = append(head, data[:min(n, shown-len(head))]...)
			}
			if res.Bytes == 0 {
				close(status)
				data = data[1:]
			}
			sum.Write(data)
			res.Bytes += int64(n)
		}
		if err == nil && j.Stop != nil && res.Bytes > j.StopAfter {
			cancelRead(s, *j.Stop)
			res.End = "stopped"
			break
		}
		if err != nil {
			res.End, res.Code, res.Error = endOf(err)
			break
		}
	}
	if res.Bytes == 0 {
		close(status)
	}
	res.Received = hex.EncodeToString(head)
	res.SHA256 = hex.EncodeToString(sum.Sum(nil))
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
