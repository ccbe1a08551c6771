package filesystem

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// systemHolder asks the kernel's table of locks, for files whose owner does not
// write its process id into them.
func systemHolder(f *os.File) int {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	table, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer table.Close()
	// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
	dev := uint64(st.Dev)
	major, minor := dev>>8&0xfff|dev>>32&^0xfff, dev&0xff|dev>>12&^0xff
	want := fmt.Sprintf("%02x:%02x:%d", major, minor, st.Ino)
	for lines := bufio.NewScanner(table); lines.Scan(); {
		col := strings.Fields(lines.Text())
		if len(col) >= 6 && col[1] == "FLOCK" && col[5] == want {
			if pid, err := strconv.Atoi(col[4]); err == nil && pid > 0 {
				return pid
			}
		}
	}
	return 0
}
