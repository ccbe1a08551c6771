package protocol

import (
	"reflect"
	"testing"
	"time"
)

func TestExecuteCmdReadsItsArgumentsAsTheContractSays(t *testing.T) {
	for _, test := range []struct {
		args []any
		want ExecuteCmdArgs
	}{
		{[]any{map[string]any{"cmd": "ls", "blocking": true}}, ExecuteCmdArgs{Cmd: "ls", Blocking: true, Delay: time.Second}},
		{[]any{map[string]any{"cmd": "", "blocking": false, "args": nil, "timeout": nil}}, ExecuteCmdArgs{Delay: time.Second}},
		{
			[]any{map[any]any{"cmd": "x", "blocking": false, "args": []any{"a b", 1, 1.0, 2.5, true, int64(-3), uint64(7)}, "timeout": 5.0}, "more"},
			ExecuteCmdArgs{Cmd: "x", Args: []string{"a b", "1", "1", "2.5", "true", "-3", "7"}, Delay: 5 * time.Millisecond},
		},
		{[]any{map[string]any{"cmd": "x", "blocking": true, "timeout": uint64(1) << 63}}, ExecuteCmdArgs{Cmd: "x", Blocking: true, Delay: time.Hour}},
	} {
		var got ExecuteCmdArgs
		if err := got.ReadArgs(test.args); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v: %+v, %v, want %+v", test.args, got, err, test.want)
		}
	}
	whole := func(key string, v any) []any {
		d := map[string]any{"cmd": "ls", "blocking": true, "args": []any{}, "timeout": 1}
		d[key] = v
		return []any{d}
	}
	for _, test := range []struct {
		args []any
		want string
	}{
		{nil, "args array should not be empty"},
		{[]any{"ls"}, "first param should be a dict"},
		{[]any{nil}, "first param should be a dict"},
		{whole("cmd", nil), "cmd param should be a string"},
		{whole("cmd", 1), "cmd param should be a string"},
		{whole("blocking", nil), "blocking param should be a boolean"},
		{whole("blocking", "true"), "blocking param should be a boolean"},
		{whole("args", "a"), "args param should be an array of primitive values"},
		{whole("args", []any{[]any{}}), "args param should be an array of primitive values"},
		{whole("args", []any{nil}), "args param should be an array of primitive values"},
		{whole("timeout", -1), "the timeout param should be an uint64"},
		{whole("timeout", 1.5), "the timeout param should be an uint64"},
		{whole("timeout", "1000"), "the timeout param should be an uint64"},
	} {
		var got ExecuteCmdArgs
		if err := got.ReadArgs(test.args); err == nil || err.Error() != test.want {
			t.Errorf("%v: %v, want %s", test.args, err, test.want)
		}
	}
}
