package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reagent/messenger"
	"reagent/protocol"
)

// A device is one that a command talks to itself, past the studio.
type device struct {
	serial string
	name   string // as it may be printed
}

func deviceOf(row protocol.DeviceRow) device {
	return device{row.SerialNumber, printable(row.Name)}
}

// findDevice looks a device up by its name, serial number or key.
func findDevice(ctx context.Context, c *Call, ref string) (protocol.DeviceRow, error) {
	list, err := ask[protocol.DeviceList](ctx, c, protocol.StudioListDevices, nil)
	if err != nil {
		return protocol.DeviceRow{}, err
	}
	for _, match := range []func(protocol.DeviceRow) bool{
		func(d protocol.DeviceRow) bool { return strings.EqualFold(d.Name, ref) || d.SerialNumber == ref },
		func(d protocol.DeviceRow) bool { return strconv.FormatUint(d.DeviceKey, 10) == ref },
	} {
		for _, d := range list.Devices {
			if match(d) {
				return d, nil
			}
		}
	}
	return protocol.DeviceRow{}, fmt.Errorf("there is no device %q: %s", ref, expand(hintDevices, c))
}

// findReachable is findDevice for what a device has to answer itself.
func findReachable(ctx context.Context, c *Call, ref string) (device, error) {
	row, err := findDevice(ctx, c, ref)
	if err == nil && !row.Online {
		err = awayError(deviceOf(row), c)
	}
	return deviceOf(row), err
}

func awayError(d device, c *Call) error {
	return fmt.Errorf("%s is not on-line, and answers for itself when it is: see %q", d.name, c.Name+" device ls")
}

// answers tells whether all procedures of a device are there now: one that is
// absent from then on, it does not have.
func (d device) answers(ctx context.Context, c *Call) bool {
	row, err := findDevice(ctx, c, d.serial)
	return err == nil && row.Online && (row.Status == protocol.Connected || row.Status == protocol.Emergency)
}

// askDevice calls a procedure of a device that takes one object and answers one.
func askDevice[Out any](ctx context.Context, c *Call, d device, suffix string, in map[string]any) (out Out, err error) {
	session, err := c.studio(ctx)
	if err != nil {
		return out, err
	}
	result, err := session.Call(ctx, protocol.Procedure(d.serial, suffix), []any{in}, nil)
	if err != nil {
		return out, d.explain(ctx, c, suffix, err)
	}
	if err := protocol.Decode(protocol.Arg(result.Args, 0), &out); err != nil {
		return out, fmt.Errorf("the answer of %s cannot be read, its agent may be of another version: %w", d.name, err)
	}
	return out, nil
}

// explain makes of an error of a call what a person can do something with. What
// the device itself answered stays as it is.
func (d device) explain(ctx context.Context, c *Call, suffix string, err error) error {
	switch {
	case isAbsent(err) && d.answers(ctx, c):
		return fmt.Errorf("the agent of %s has no %s: it is older than this program, or another one", d.name, suffix)
	case isAbsent(err):
		return awayError(d, c)
	case isCutOff(err):
		return fmt.Errorf("%s left before it had answered; what was asked for may have been done", d.name)
	}
	return err
}

// tellLosses tells people what becomes of the connection to the studio. back is
// what its return means for them.
func (c *Call) tellLosses(s Session, back string) {
	s.Watch(func(online bool, reason string) {
		if online {
			c.say("the studio is back%s", back)
		} else {
			c.say("the connection to the studio is lost: %s; trying again", reason)
		}
	})
}

// isAbsent tells that nobody offers the procedure that was called.
func isAbsent(err error) bool {
	var answer *messenger.CallError
	return errors.As(err, &answer) && answer.URI == protocol.ErrorNoSuchProcedure
}

// isCutOff tells that a router ended a call, for whoever should have answered it
// has left. A device's own error says something.
func isCutOff(err error) bool {
	var answer *messenger.CallError
	if !errors.As(err, &answer) || strings.HasPrefix(answer.URI, protocol.ErrorPrefix) {
		return false
	}
	_, isDict := protocol.AsDict(protocol.Arg(answer.Args, 0))
	return !isDict && answer.URI != protocol.ErrorNoSuchProcedure && answer.URI != protocol.ErrorNotAuthorized
}

// codeOf is what kind of error was answered (design of both forms: procedures of
// the contract have it in their arguments, our own in the URI); "" = unknown.
func codeOf(answer *messenger.CallError) protocol.Code {
	if code, isOurs := strings.CutPrefix(answer.URI, protocol.ErrorPrefix); isOurs {
		return protocol.Code(code)
	}
	d, _ := protocol.AsDict(protocol.Arg(answer.Args, 0))
	code, _ := protocol.Text(d["code"])
	return protocol.Code(code)
}
