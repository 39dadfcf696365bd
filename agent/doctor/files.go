package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Disk thresholds: a commit that takes longer than slowSync makes customers
// wait; below lowSpace the kiosk stops selling.
const (
	slowSync = 250 * time.Millisecond
	lowSpace = 64 << 20
)

// Disk looks at the state directory: how much space is left, and how long the
// disk takes to make a small write durable (the middle one of five).
func Disk(dir string) Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return unreadable("disk", dir, err)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // 32 bits wide on arm
	sync, err := syncTime(dir)
	switch {
	case err != nil && errors.Is(err, unix.ENOSPC):
		return found("disk", Bad, "存储已满", "free space on the file system of "+dir+"; never delete anything inside it", "the disk is full")
	case err != nil && errors.Is(err, unix.EROFS):
		return found("disk", Bad, "存储变为只读", "dmesg tells why; most often the card or disk is worn out: replace it", "the file system of %s is read-only", dir)
	case err != nil:
		return unreadable("disk", dir, err)
	case free < lowSpace:
		return found("disk", Bad, "存储空间不足", "free space on the file system of "+dir+"; never delete anything inside it", "%d MB are left", free>>20)
	case sync > slowSync:
		return found("disk", Warn, "存储写入过慢", "if it stays so the disk is wearing out: replace it", "a durable write takes %v", sync.Round(time.Millisecond))
	}
	return good("disk", "存储正常", "%d MB free, a durable write takes %v", free>>20, sync.Round(100*time.Microsecond))
}

func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // an empty file in the worst case
	defer f.Close()           //nolint:errcheck // nothing in it is needed
	var took []time.Duration
	block := make([]byte, 4096)
	for range 5 {
		from := time.Now()
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(from))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func unreadable(check, path string, err error) Finding {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return found(check, Unsure, "无权查看", "run it with sudo", "no right to look at %s", path)
	case errors.Is(err, fs.ErrNotExist):
		return found(check, Bad, "文件或目录不存在", "install the package again, or correct the path in the configuration", "%s does not exist", path)
	}
	return found(check, Bad, "读写错误", "look at dmesg; most often the card or disk is worn out", "%s: %s", path, err)
}

// Private looks at a file or directory that only its owner may use.
func Private(check, path string) Finding {
	st, err := os.Stat(path)
	if err != nil {
		return unreadable(check, path, err)
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		want := "0600"
		if st.IsDir() {
			want = "0700"
		}
		return found(check, Bad, "权限过宽", fmt.Sprintf("chmod %s %s; if others may have read a key, change it", want, path), "%s has mode %04o, others may use it", path, m)
	}
	return good(check, "权限正常", "%s belongs to its owner alone", path)
}

// Shielded looks at a configuration that others may not read or change.
func Shielded(check, path string) Finding {
	st, err := os.Stat(path)
	if err != nil {
		return unreadable(check, path, err)
	}
	if m := st.Mode().Perm(); m&0o027 != 0 {
		return found(check, Warn, "配置文件权限过宽", "chmod 0640 "+path, "%s has mode %04o", path, m)
	}
	return good(check, "权限正常", "%s cannot be changed by others", path)
}
