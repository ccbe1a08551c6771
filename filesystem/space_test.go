package filesystem

import (
	"path/filepath"
	"testing"
)

func TestFreeIsOfTheNearestFolderThatExists(t *testing.T) {
	dir := t.TempDir()
	here, err := Free(dir)
	if err != nil || here.Total == 0 || here.Free > here.Total {
		t.Fatalf("Free(%s) = %+v, %v", dir, here, err)
	}
	below, err := Free(filepath.Join(dir, "not", "yet"))
	if err != nil || below.Total != here.Total {
		t.Errorf("Free of a folder that is to be = %+v, %v; want the total of the one above, %d", below, err, here.Total)
	}
}

func TestPathsBelowOneFolderAreOnOneDisk(t *testing.T) {
	dir := t.TempDir()
	if !SameDisk(dir, filepath.Join(dir, "not", "yet")) {
		t.Errorf("%s and a folder in it are on two disks", dir)
	}
}
