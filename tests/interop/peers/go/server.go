package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

func runServer(opts options) error {
	config, err := opts.config()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := report(map[string]int{"listening": listener.Addr().(*net.TCPAddr).Port}); err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := serve(tls.Server(connection, config)); err != nil {
			fmt.Fprintln(os.Stderr, "go-peer:", err)
		}
	}
}

// serve answers an HTTP request with its path, and any other line with the same line.
func serve(connection *tls.Conn) error {
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := connection.Handshake(); err != nil {
		return err
	}
	if err := report(factsOf(connection.ConnectionState())); err != nil {
		return err
	}
	reader := bufio.NewReader(connection)
	line, err := reader.ReadString('\n')
	if err != nil {
		return err
	}
	if method, rest, isHTTP := strings.Cut(line, " "); isHTTP && strings.HasSuffix(rest, "HTTP/1.1\r\n") {
		path, _, _ := strings.Cut(rest, " ")
		body := method + " " + path + "\n"
		_, err = fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
		return err
	}
	_, err = io.WriteString(connection, line)
	return err
}
