package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// Sizes of the chunks of an upload: as large as the link carries in about
// chunkTime, so that a slow one shows progress and a fast one is used.
const (
	firstChunk = 64 << 10
	mostChunk  = 1 << 20 // twice that as hexadecimal digits
	chunkTime  = time.Second
	chunkLimit = 2 * time.Minute // to answer one
)

// An upload brings an archive to a device (wire §5.5).
type upload struct {
	c         *Call
	serial    string
	device    string // for people
	file      string // the name that the device keeps it under
	container string
	content   io.ReaderAt
	size      int64
}

// run sends the archive. A transfer that broke off is begun anew: the protocol
// cannot go on in the middle of one.
func (u *upload) run(ctx context.Context) error {
	const attempts = 5
	for n := 1; ; n++ {
		err := u.once(ctx)
		if err == nil || ctx.Err() != nil || n == attempts || !worthAnother(err) {
			return u.explain(err)
		}
		u.c.say("the transfer broke off: %s; beginning anew", printable(reason(err)))
		select {
		case <-time.After(time.Duration(n) * u.c.retry()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once is one transfer from its begin to its end.
func (u *upload) once(ctx context.Context) (err error) {
	bar := u.c.bar(fmt.Sprintf("sending %s to %s", size(u.size), u.device))
	defer func() { bar.end(err) }()
	id := rand.Text()
	if err := u.send(ctx, protocol.TransferBegin, id); err != nil {
		return err
	}
	buffer := make([]byte, mostChunk)
	for sent, next := int64(0), firstChunk; sent < u.size; {
		n, err := u.content.ReadAt(buffer[:min(int64(next), u.size-sent)], sent)
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return fmt.Errorf("read the archive: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		begun := time.Now()
		if err := u.send(ctx, hex.EncodeToString(buffer[:n]), id); err != nil {
			return err
		}
		sent += int64(n)
		bar.at(sent, u.size)
		switch took := time.Since(begun); {
		case took < chunkTime/2:
			next = min(2*next, mostChunk)
		case took > 2*chunkTime:
			next = max(next/2, firstChunk/4)
		}
	}
	return u.send(ctx, protocol.TransferEnd, id)
}

// send is one call. Only one is under way at a time, as chunks carry no position.
func (u *upload) send(ctx context.Context, chunk, id string) error {
	session, err := u.c.studio(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, chunkLimit)
	defer cancel()
	_, err = session.Call(ctx, protocol.Procedure(u.serial, protocol.WriteData), []any{chunk, u.file, u.container, u.size, id}, nil)
	return err
}

// worthAnother tells whether a transfer may do better when it is begun anew: the
// link or the device went away, or another transfer took its place.
func worthAnother(err error) bool {
	var answer *messenger.CallError
	if !errors.As(err, &answer) {
		return errors.Is(err, messenger.ErrOffline) || errors.Is(err, context.DeadlineExceeded)
	}
	switch answerCode(answer) {
	case protocol.CodeNotFound, protocol.CodeUnavailable, protocol.CodeTimeout: // not found: the agent was started anew
		return true
	}
	return answer.URI == protocol.ErrorNoSuchProcedure || answer.Text() == "canceled"
}

// explain says what became of the transfer.
func (u *upload) explain(err error) error {
	var answer *messenger.CallError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && answer.URI == protocol.ErrorNoSuchProcedure:
		return fmt.Errorf("%s takes no archives: it went off-line, or its agent is older than this program", u.device)
	case errors.As(err, &answer) && answerCode(answer) == protocol.CodeRefused:
		return fmt.Errorf("%s does not let you send it an archive: the right DEVELOP is needed, see \"%s help grant\"", u.device, u.c.Name)
	}
	return fmt.Errorf("send the archive to %s: %s", u.device, printable(reason(err)))
}

// reason is an error without the words of the protocol.
func reason(err error) string {
	var answer *messenger.CallError
	switch {
	case errors.As(err, &answer) && answer.URI == protocol.ErrorNoSuchProcedure:
		return "the device is not there"
	case errors.As(err, &answer) && answer.Text() != "":
		return answer.Text()
	case errors.Is(err, messenger.ErrOffline):
		return "the connection to the studio was lost"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}

// answerCode is the code that an error of ours carries, whether in its name or,
// as those of the contract's procedures, in its arguments.
func answerCode(answer *messenger.CallError) protocol.Code {
	d, _ := protocol.AsDict(protocol.Arg(answer.Args, 0))
	code, _ := protocol.Text(d["code"])
	return protocol.Code(code)
}
