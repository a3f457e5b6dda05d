package main

import (
	"encoding/hex"
	"time"
)

func runDatagrams(conn connection, j *job) []string {
	got := make(chan string, 4096)
	go func() {
		defer close(got)
		for {
			data, err := receiveDatagram(conn)
			if err != nil {
				return
			}
			got <- hex.EncodeToString(data)
		}
	}()
	for _, text := range j.Datagrams {
		data, err := hex.DecodeString(text)
		if err != nil {
			fatal("a datagram is no hex: %v", err)
		}
		if err = sendDatagram(conn, data); err != nil {
			return []string{} // closed by the server: the result says so elsewhere
		}
	}
	answers := []string{}
	limit := time.After(time.Duration(j.CollectMs) * time.Millisecond)
	for j.Expect == 0 || len(answers) < j.Expect {
		select {
		case text, open := <-got:
			if !open {
				return answers
			}
			answers = append(answers, text)
		case <-limit:
			return answers
		}
	}
	return answers
}
