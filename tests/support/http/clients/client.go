// Go's own client of HTTP/2 (net/http), at the real program: see test_http2_clients.py.
//
//	client MODE ADDRESS CA SECONDS
//
// check: one thing after the other; prints what it saw as JSON.
// load: asks until standard input ends; prints how much of what was done, and what failed.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const base = "https://a.test/app/"

var opened atomic.Int64

func client(address, ca string) *http.Client {
	pem, err := os.ReadFile(ca)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	dialer := &net.Dialer{Timeout: 20 * time.Second}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			opened.Add(1)
			return dialer.DialContext(ctx, network, address)
		},
	}}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func read(answer *http.Response, err error) []byte {
	must(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(err)
	if answer.ProtoMajor != 2 || answer.StatusCode != 200 {
		panic(fmt.Sprintf("%s %d %s", answer.Proto, answer.StatusCode, body))
	}
	return body
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func check(c *http.Client) map[string]any {
	saw := map[string]any{}
	read(c.Get(base + "first"))

	// A hundred at a time on one connection.
	var group sync.WaitGroup
	var right atomic.Int64
	for n := range 100 {
		group.Go(func() {
			target := fmt.Sprintf("%sat-once-%d", base, n)
			if strings.HasSuffix(target, string(read(c.Get(target)))) {
				right.Add(1)
			}
		})
	}
	group.Wait()
	saw["at once"] = right.Load()

	large := bytes.Repeat([]byte("upload"), 1<<20)
	sum := read(c.Post(base+"digest", "text/plain", bytes.NewReader(large)))
	saw["upload"] = string(sum) == digest(large)

	// Of a length that nobody knows beforehand, from a pipe.
	out, in := io.Pipe()
	go func() {
		for range 64 {
			in.Write(large[:60_000])
		}
		in.Close()
	}()
	sum = read(c.Post(base+"digest", "text/plain", out))
	saw["stream"] = string(sum) == digest(bytes.Repeat(large[:60_000], 64))

	saw["download"] = digest(read(c.Get(base + "bytes?size=20000000")))

	request, err := http.NewRequest("POST", base+"digest", bytes.NewReader(large))
	must(err)
	request.Header.Set("Expect", "100-continue")
	invited := false
	trace := &httptrace.ClientTrace{Got100Continue: func() { invited = true }}
	sum = read(c.Do(request.WithContext(httptrace.WithClientTrace(context.Background(), trace))))
	saw["expects"] = invited && string(sum) == digest(large)

	answer, err := c.Post(base+"trailers", "text/plain", strings.NewReader("trailed"))
	body := read(answer, err)
	saw["trailers"] = string(body) + " " + answer.Trailer.Get("X-Digest")

	// Given up in the middle; the connection goes on.
	ctx, cancel := context.WithCancel(context.Background())
	request, err = http.NewRequestWithContext(ctx, "GET", base+"events?count=100000&pause=0.01", nil)
	must(err)
	answer, err = c.Do(request)
	must(err)
	piece := make([]byte, 20)
	_, err = io.ReadFull(answer.Body, piece)
	must(err)
	cancel()
	_, err = io.ReadAll(answer.Body)
	saw["cancelled"] = err != nil
	answer.Body.Close()
	read(c.Get(base + "last"))
	saw["connections"] = opened.Load()
	return saw
}

type tally struct {
	sync.Mutex
	done   map[string]int
	failed []string
}

func (t *tally) note(kind string, err any) {
	t.Lock()
	defer t.Unlock()
	if err == nil {
		t.done[kind]++
	} else if len(t.failed) < 20 {
		t.failed = append(t.failed, fmt.Sprintf("%s: %v", kind, err))
	}
}

func load(c *http.Client) map[string]any {
	seen := &tally{done: map[string]int{}}
	over := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(over) }()
	var numbers atomic.Int64
	body := bytes.Repeat([]byte("x"), 50_000)
	sum := digest(body)
	kinds := map[string]func(){
		"get": func() {
			target := fmt.Sprintf("%sgo-%d", base, numbers.Add(1))
			if got := string(read(c.Get(target))); !strings.HasSuffix(target, got) {
				panic(got)
			}
		},
		"post": func() {
			request, err := http.NewRequest("POST", base+"digest", bytes.NewReader(body))
			must(err)
			request.Header.Set("X-Id", fmt.Sprintf("go-%d", numbers.Add(1)))
			if got := string(read(c.Do(request))); got != sum {
				panic(got)
			}
		},
		"download": func() {
			if got := read(c.Get(base + "bytes?size=8000000")); len(got) != 8_000_000 {
				panic(len(got))
			}
		},
		"events": func() {
			answer, err := c.Get(base + "events?count=100&pause=0.03")
			if got := read(answer, err); !bytes.HasSuffix(got, []byte("data: 99\n\n")) {
				panic("the events ended early")
			}
		},
	}
	var group sync.WaitGroup
	for kind, once := range kinds {
		for range map[string]int{"get": 6, "post": 4, "download": 1, "events": 3}[kind] {
			group.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					func() {
						defer func() { seen.note(kind, recover()) }()
						once()
					}()
				}
			})
		}
	}
	group.Wait()
	return map[string]any{"done": seen.done, "failed": seen.failed, "connections": opened.Load()}
}

func main() {
	c := client(os.Args[2], os.Args[3])
	does := map[string]func(*http.Client) map[string]any{"check": check, "load": load}
	must(json.NewEncoder(os.Stdout).Encode(does[os.Args[1]](c)))
}
