// A client of the tunnel protocol on quic-go, an implementation of QUIC that shares nothing with
// the programs under test. It reads one job as JSON from standard input, carries it out on one
// connection, and prints one result as JSON; the tests in Python say what the result must be.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

type job struct {
	Profile     string      `json:"profile"`     // file with a profile URI
	ALPN        string      `json:"alpn"`        // default: mytunnel
	Identity    string      `json:"identity"`    // profile (default), none, random
	ServerName  string      `json:"server_name"` // instead of the pin's; then nothing is verified
	Streams     []streamJob `json:"streams"`
	Parallel    bool        `json:"parallel"`
	Datagrams   []string    `json:"datagrams"`     // hex, sent after the streams
	Expect      int         `json:"expect"`        // datagrams to wait for
	CollectMs   int         `json:"collect_ms"`    // how long at most
	WaitCloseMs int         `json:"wait_close_ms"` // wait for the server to close
}

type result struct {
	Connected bool           `json:"connected"`
	Error     *failure       `json:"error,omitempty"` // why the connection failed
	Server    string         `json:"server"`          // SHA-256 of the server's certificate, hex
	Streams   []streamResult `json:"streams"`
	Datagrams []string       `json:"datagrams"`
	Close     *failure       `json:"close,omitempty"` // how the server closed it
}

func main() {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		fatal("the job is no JSON: %v", err)
	}
	uri, err := os.ReadFile(j.Profile)
	if err != nil {
		fatal("%v", err)
	}
	p, err := parseProfile(string(uri))
	if err != nil {
		fatal("%v", err)
	}
	tlsConfig, err := p.tlsConfig(j.ALPN, j.Identity)
	if err != nil {
		fatal("%v", err)
	}
	if j.ServerName != "" {
		tlsConfig.ServerName = j.ServerName
		tlsConfig.VerifyPeerCertificate = p.note
	}
	res := result{Streams: []streamResult{}, Datagrams: []string{}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := dial(ctx, p.address, tlsConfig)
	if err != nil {
		res.Error = describe(err)
		print(&res)
		return
	}
	res.Connected = true
	res.Server = p.server
	run(conn, &j, &res)
	if j.WaitCloseMs > 0 {
		res.Close = waitClose(conn, time.Duration(j.WaitCloseMs)*time.Millisecond)
	}
	_ = conn.CloseWithError(0, "")
	print(&res)
}

func run(conn connection, j *job, res *result) {
	res.Streams = make([]streamResult, len(j.Streams))
	if j.Parallel {
		var group sync.WaitGroup
		for i := range j.Streams {
			group.Add(1)
			go func(i int) {
				defer group.Done()
				res.Streams[i] = runStream(conn, &j.Streams[i])
			}(i)
		}
		group.Wait()
	} else {
		for i := range j.Streams {
			res.Streams[i] = runStream(conn, &j.Streams[i])
		}
	}
	if len(j.Datagrams) > 0 {
		res.Datagrams = runDatagrams(conn, j)
	}
}

// A client's handshake is complete before the server has looked at its certificate: a refusal
// arrives later, as a close.
func waitClose(conn connection, limit time.Duration) *failure {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := conn.AcceptUniStream(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return describe(err)
}

func print(res *result) {
	text, err := json.Marshal(res)
	if err != nil {
		fatal("%v", err)
	}
	fmt.Println(string(text))
}

func fatal(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "interop: "+format+"\n", args...)
	os.Exit(1)
}
