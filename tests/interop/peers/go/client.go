package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// runClient makes one connection to each address; all have one cache of sessions, with opts.resume. A single address is
// then connected to twice.
func runClient(opts options, addresses []string) error {
	config, err := opts.config()
	if err != nil {
		return err
	}
	if opts.resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		if len(addresses) == 1 {
			addresses = append(addresses, addresses[0])
		}
	}
	for _, address := range addresses {
		if err := connect(config, opts, address); err != nil {
			return err
		}
	}
	return nil
}

func connect(config *tls.Config, opts options, address string) error {
	dialer := &net.Dialer{Timeout: timeout}
	connection, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	f := factsOf(connection.ConnectionState())
	f.Body, err = exchange(connection, opts)
	if err != nil {
		return err
	}
	return report(f)
}

// exchange makes one HTTP request, or sends a line and reads until the other side closes. Either way something is read
// after the handshake: session tickets, and the alert about a refused client certificate, arrive only then.
func exchange(connection *tls.Conn, opts options) (string, error) {
	if opts.get == "" {
		if _, err := io.WriteString(connection, "hello\n"); err != nil {
			return "", err
		}
		line, err := bufio.NewReader(connection).ReadString('\n')
		return strings.TrimSuffix(line, "\n"), err
	}
	request, err := http.NewRequest("GET", "https://"+opts.serverName+opts.get, nil)
	if err != nil {
		return "", err
	}
	request.Close = true
	if err := request.Write(connection); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
