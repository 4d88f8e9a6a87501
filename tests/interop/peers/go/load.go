package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A transfer is this many chunks, with a pause after each: it lasts for seconds, so that something happens in its middle.
const (
	chunk = 64 * 1024
	pause = 10 * time.Millisecond
)

type load struct {
	Handshakes atomic.Int64
	Resumed    atomic.Int64
	Transfers  atomic.Int64
	Bytes      atomic.Int64

	mutex    sync.Mutex
	groups   map[string]int
	failures []string
}

type loadReport struct {
	Handshakes int64          `json:"handshakes"`
	Resumed    int64          `json:"resumed"`
	Transfers  int64          `json:"transfers"`
	Bytes      int64          `json:"bytes"`
	Groups     map[string]int `json:"groups"`
	Failures   []string       `json:"failures"`
}

// runLoad makes handshakes, one after the other in each of opts.handshakers, and long transfers in each of
// opts.transferrers, towards an echo that ends with the number of bytes it got. It goes on until standard input ends, and
// reports every failure.
func runLoad(opts options, address string) error {
	config, err := opts.config()
	if err != nil {
		return err
	}
	resuming := config.Clone()
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(64)
	l := &load{groups: map[string]int{}}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	repeat := func(what string, once func(number int) error) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for number := 0; ; number++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := once(number); err != nil {
					l.fail(what, err)
				}
			}
		}()
	}
	for range opts.handshakers {
		repeat("handshake", func(number int) error {
			// Every other one with a session of before, where there is one.
			if number%2 == 1 {
				return l.handshake(resuming, address)
			}
			return l.handshake(config, address)
		})
	}
	for range opts.transferrers {
		repeat("transfer", func(int) error { return l.transfer(config, address, opts.chunks) })
	}
	if err := report(map[string]bool{"running": true}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	close(stop)
	workers.Wait()
	if err != nil {
		return err
	}
	return report(loadReport{
		l.Handshakes.Load(), l.Resumed.Load(), l.Transfers.Load(), l.Bytes.Load(), l.groups, append([]string{}, l.failures...),
	})
}

func (l *load) fail(what string, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.failures = append(l.failures, fmt.Sprintf("%s %s: %v", time.Now().UTC().Format("15:04:05.000"), what, err))
}

func (l *load) dial(config *tls.Config, address string) (*tls.Conn, error) {
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: timeout}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	state := connection.ConnectionState()
	l.mutex.Lock()
	l.groups[state.CurveID.String()]++
	l.mutex.Unlock()
	if state.DidResume {
		l.Resumed.Add(1)
	}
	return connection, nil
}

// handshake makes a connection and has one line sent back and forth.
func (l *load) handshake(config *tls.Config, address string) error {
	connection, err := l.dial(config, address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	line := []byte("a line\n")
	if _, err := connection.Write(line); err != nil {
		return err
	}
	if err := connection.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(connection)
	if err != nil {
		return err
	}
	if want := "a line\nthat was 7 bytes\n"; string(got) != want {
		return fmt.Errorf("%q came back", got)
	}
	l.Handshakes.Add(1)
	// Some hundred a second are enough, and leave the machine to the server.
	time.Sleep(5 * time.Millisecond)
	return nil
}

// transfer sends chunks for a while, and checks that every one of them comes back, and then the end.
func (l *load) transfer(config *tls.Config, address string, chunks int) error {
	connection, err := l.dial(config, address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * timeout)); err != nil {
		return err
	}
	source := rand.NewChaCha8([32]byte{byte(rand.IntN(256)), byte(rand.IntN(256))})
	sent := sha256.New()
	failed := make(chan error, 1)
	go func() {
		buffer := make([]byte, chunk)
		for range chunks {
			source.Read(buffer)
			sent.Write(buffer)
			if _, err := connection.Write(buffer); err != nil {
				failed <- fmt.Errorf("sending: %w", err)
				return
			}
			time.Sleep(pause)
		}
		failed <- connection.CloseWrite()
	}()
	received := sha256.New()
	count, err := io.CopyN(received, connection, int64(chunks)*chunk)
	if err != nil {
		return fmt.Errorf("truncated after %d bytes: %w", count, err)
	}
	end, err := io.ReadAll(connection)
	if err != nil {
		return fmt.Errorf("after the last byte: %w", err)
	}
	if err := <-failed; err != nil {
		return err
	}
	if want := fmt.Sprintf("that was %d bytes\n", int64(chunks)*chunk); string(end) != want {
		return fmt.Errorf("the end is %q", end)
	}
	if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return fmt.Errorf("other bytes came back")
	}
	l.Transfers.Add(1)
	l.Bytes.Add(2 * count)
	return nil
}
