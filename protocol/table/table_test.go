package table

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/text/encoding/simplifiedchinese"

	"vcckiosk/protocol/catalogue"
)

func columns(tb testing.TB, code string) []catalogue.Field {
	tb.Helper()
	i, ok := catalogue.Find(code)
	if !ok || i.Shape != catalogue.Table {
		tb.Fatalf("%s is no table", code)
	}
	return i.Answer
}

const (
	header = "气户户号|气户名称|地址编码|地址明细|气户类型|气户状态|联系电话|手机号码|组织机构编码"
	zhang  = "1400123456|张三|3205053691|153幢|1|A|10086|13600000001|WJ0105"
	li     = "1400123457|李四|3205053692|152幢|1|A|10087|13600000002|WJ0105"
)

func gb(s string) string {
	b, err := simplifiedchinese.GB18030.NewEncoder().String(s)
	if err != nil {
		panic(err)
	}
	return b
}

// read returns the columns of each row, joined, and what the reader says.
func read(tb testing.TB, in io.Reader, code string, o Options, want ...int) (rows []string, s Summary, err error) {
	tb.Helper()
	r := New(in, columns(tb, code), o)
	for r.Next() {
		var cells []string
		for _, c := range want {
			cells = append(cells, string(r.Field(c)))
		}
		rows = append(rows, strings.Join(cells, ","))
	}
	return rows, r.Summary(), r.Err()
}

func TestTablesAsPlatformsWriteThem(t *testing.T) {
	t.Parallel()
	both := []string{"1400123456,张三,WJ0105", "1400123457,李四,WJ0105"}
	plain := header + "\n" + zhang + "\n" + li + "\n"
	long := strings.Repeat("长", 5000)
	for _, x := range []struct {
		name, body string
		rows       []string
		charset    Charset
		bad        []Bad
	}{
		{"as documented", plain, both, UTF8, nil},
		{"with a byte order mark", "\xef\xbb\xbf" + plain, both, UTF8, nil},
		{"with CRLF", strings.ReplaceAll(plain, "\n", "\r\n"), both, UTF8, nil},
		{"without a last line end", strings.TrimSuffix(plain, "\n"), both, UTF8, nil},
		{"in GB18030", gb(plain), both, GB18030, nil},
		{"in GB18030 with its mark", "\x84\x31\x95\x33" + gb(plain), both, GB18030, nil},
		{"in GB18030 with CRLF", gb(strings.ReplaceAll(plain, "\n", "\r\n")), both, GB18030, nil},
		{"blank lines", "\n \r\n" + header + "\n\n" + zhang + "\n\r\n" + li + "\n\n", both, UTF8, nil},
		{"blanks around fields", strings.ReplaceAll(plain, "|", " | "), both, UTF8, nil},
		{
			"alias of a column", strings.Replace(plain, "组织机构编码", "机构编码", 1), both, UTF8, nil,
		},
		{
			"ASCII alias of a column", strings.Replace(plain, "组织机构编码", "orgCode", 1), both, UTF8, nil,
		},
		{
			"columns in another order, and more of them",
			"更新时间|组织机构编码|气户名称|气户户号|地址编码|地址明细|气户类型|气户状态|备注\n20260101|WJ0105|张三|1400123456|1|2|1|A|\n20260101|WJ0105|李四|1400123457|1|2|1|A|x\n",
			both, UTF8, nil,
		},
		{"a separator behind every line", strings.ReplaceAll(plain, "\n", "|\n"), both, UTF8, nil},
		{"empty", "", nil, Undecided, nil},
		{"only line ends", "\r\n\n", nil, Undecided, nil},
		{"header only", header + "\r\n", nil, UTF8, nil},
		{
			"rows that do not fit",
			header + "\n" + zhang + "\nshort|row\n" + strings.Replace(zhang, "张三", "", 1) + "\n" +
				strings.Replace(zhang, "1400123456", "140012345678901234567", 1) + "\n" + strings.Replace(zhang, "张三", "张\x00三", 1) + "\n" +
				strings.Replace(zhang, "张三", "\xff\xfe", 1) + "\n" + strings.Replace(zhang, "张三", "a|b", 1) + "\n" +
				strings.Replace(zhang, "张三", long, 1) + "\n" + strings.Replace(zhang, "张三", strings.Repeat("张", 61), 1) + "\n" + li + "\n",
			both, UTF8,
			[]Bad{
				{3, "has 2 fields, the header 9"},
				{4, "column 气户名称: empty"},
				{5, "column 气户户号: longer than 20 characters"},
				{6, "has a control character"},
				{7, "not valid utf-8"},
				{8, "has 10 fields, the header 9"},
				{9, "longer than 8192 bytes"},
				{10, "column 气户名称: longer than 60 characters"},
			},
		},
		{
			"a row that is no GB18030", gb(header+"\n"+zhang+"\n") + strings.Replace(zhang, "张三", "\xff\xff", 1) + "\n" + gb(li), both, GB18030,
			[]Bad{{3, "not valid gb18030"}},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			for name, in := range map[string]io.Reader{
				"whole": strings.NewReader(x.body), "byte by byte": iotest.OneByteReader(strings.NewReader(x.body)),
				"data with the end": iotest.DataErrReader(strings.NewReader(x.body)),
			} {
				rows, s, err := read(t, in, "3003", Options{MaxLine: 8192}, 0, 1, 8)
				if err != nil || !slices.Equal(rows, x.rows) || !slices.Equal(s.List, x.bad) || s.Bad != len(x.bad) || s.Rows != len(x.rows) {
					t.Errorf("%s: %q, %+v, %v", name, rows, s, err)
				}
				if s.Charset != x.charset || s.Bytes != int64(len(x.body)) {
					t.Errorf("%s: charset %s, %d bytes of %d", name, s.Charset, s.Bytes, len(x.body))
				}
			}
		})
	}
}

// A character of GB18030 can end in the byte of the separator.
func TestASeparatorInsideACharacterIsNone(t *testing.T) {
	t.Parallel()
	name := "墊瀨" // both end in 0x7C
	raw := gb(name)
	if strings.Count(raw, "|") == 0 {
		t.Fatalf("%x has no separator's byte: this test would prove nothing", raw)
	}
	rows, s, err := read(t, strings.NewReader(gb(header+"\n"+strings.Replace(zhang, "张三", name, 1)+"\n")), "3003", Options{}, 0, 1, 8)
	if err != nil || len(rows) != 1 || rows[0] != "1400123456,"+name+",WJ0105" {
		t.Errorf("%q %+v %v", rows, s, err)
	}
}

func TestAHeaderThatIsNotThisTable(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ name, body, want string }{
		{"a required column missing", strings.Replace(header, "气户户号|", "", 1), "column 气户户号 is missing"},
		{"a column twice", header + "|机构编码", "column 组织机构编码 is there twice"},
		{"another table", "表具编号|表具类型", "is missing"},
		{"rows without header", zhang + "\n" + li, "is missing"},
		{"a web page", "<html>\n", "is missing"},
		{"bytes", "\x00\x01\x02", "is not text"},
		{"UTF-16", "\xff\xfe\x14\x6c", "is not text"},
		{"far too long", strings.Repeat("x", 9000), "longer than 8192 bytes"},
		{"too many columns", strings.Repeat("x|", 400), "more than 256 columns"},
	} {
		_, _, err := read(t, strings.NewReader(x.body), "3003", Options{MaxLine: 8192})
		if !errors.Is(err, ErrHeader) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", x.name, err, x.want)
		}
	}
}

func TestEveryDocumentedTableIsRead(t *testing.T) {
	t.Parallel()
	for code, body := range map[string]string{
		"3001": "地址代码|父地址代码|地址类型|地址名称|地址全称|组织机构编码|状态\n3205053690|5400024559|6|153幢|吴江区松陵镇绿地太湖城西三期153幢|WJ0105|A\n3205053691|5400024564|6|151幢|吴江区松陵镇绿地太湖城西三期153幢|WJ0105|X\n",
		"3002": "供气点编码|供气点类型|气源类型|楼栋编码|地址明细|是否穿层户|机构编码\n3205053690|1|1|796797932423|203室|Y|WJ0105\n3205053691|2|2|709712341234|102室|N|WJ0105\n",
		"3003": header + "\n" + zhang + "\n" + li + "\n",
		"3004": "表具编号|表具类型|型号|表向|状态|位置|气户编号|管理模式|厂商代码|组织机构编码\n1400123456|01|01|1|A|厨房|3205053691|1|10086|WJ0105\n1400123456|02|03|1|A|厨房|3205053691|1|10086|WJ0105\n",
	} {
		rows, s, err := read(t, strings.NewReader(body), code, Options{}, 0)
		if err != nil || len(rows) != 2 || s.Bad != 0 || s.Unknown != 0 {
			t.Errorf("%s: %q %+v %v", code, rows, s, err)
		}
	}
}

func TestAReadErrorIsPassedOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	in := io.MultiReader(strings.NewReader(header+"\n"+zhang+"\n"+li[:9]), iotest.ErrReader(broken))
	rows, _, err := read(t, in, "3003", Options{}, 0)
	if !errors.Is(err, broken) || len(rows) != 1 {
		t.Errorf("%q %v: a cut row must not be taken", rows, err)
	}
}

func TestRowsSetAsideAreCountedAndFewAreKept(t *testing.T) {
	t.Parallel()
	r := New(strings.NewReader(header+"\n"+strings.Repeat("x\n", 1000)+zhang+"\n"), columns(t, "3003"), Options{MaxBad: 3})
	for r.Next() {
		r.SetAside("as the caller says")
	}
	if s := r.Summary(); s.Bad != 1001 || len(s.List) != 3 || s.Rows != 0 || r.Line() != 1002 {
		t.Errorf("%+v, line %d", s, r.Line())
	}
}

// TestMemoryDoesNotGrowWithTheTable counts allocations, which is no matter of
// time: 100,000 rows cost what 2,000 do.
func TestMemoryDoesNotGrowWithTheTable(t *testing.T) {
	for name, encode := range map[string]func(string) string{"utf-8": func(s string) string { return s }, "gb18030": gb} {
		head, row := []byte(encode(header+"\n")), []byte(encode(zhang+"\n"))
		cols := columns(t, "3003")
		allocs := func(rows int) float64 {
			return testing.AllocsPerRun(1, func() {
				r := New(io.MultiReader(bytes.NewReader(head), &repeated{of: row, n: rows}), cols, Options{})
				for r.Next() {
				}
				if s := r.Summary(); s.Rows != rows || r.Err() != nil {
					t.Fatalf("%+v %v", s, r.Err())
				}
			})
		}
		few, many := allocs(2_000), allocs(100_000)
		t.Logf("%s: %v allocations for 2,000 rows, %v for 100,000", name, few, many)
		if many > few+1 {
			t.Errorf("%s: %v allocations for 2,000 rows, %v for 100,000", name, few, many)
		}
	}
}

// repeated is a body of n equal rows.
type repeated struct {
	of  []byte
	n   int
	off int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) && r.n > 0 {
		k := copy(p[n:], r.of[r.off:])
		n += k
		if r.off += k; r.off == len(r.of) {
			r.off = 0
			r.n--
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// slow is scan, byte by byte.
func slow(line []byte) (seps []int, c content) {
	c = content{ascii: true, utf8: utf8.Valid(line)}
	for i, b := range line {
		switch {
		case b >= 0x80:
			c.ascii = false
		case b < 0x20 || b == 0x7f:
			c.ctl = true
		case b == '|':
			seps = append(seps, i)
		}
	}
	return seps, c
}

func sameScan(t *testing.T, line []byte) {
	t.Helper()
	seps, c := scan(line, nil)
	if want, w := slow(line); !slices.Equal(seps, want) || c != w {
		t.Fatalf("%q: %v %+v, want %v %+v", line, seps, c, want, w)
	}
}

func TestScanIsExact(t *testing.T) {
	t.Parallel()
	for a := range 256 {
		for b := range 256 {
			for _, tail := range []string{"", "\xbf\x80", "abcdefgh\xe5", "|张", "\x7f|"} {
				for _, head := range []string{"", "abcdefg", "张三|李四"} {
					sameScan(t, []byte(head+string([]byte{byte(a), byte(b)})+tail))
				}
			}
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(header))
	f.Add([]byte(gb(zhang)))
	f.Add([]byte(strings.Repeat("张|", 40) + "\xf0\x9f\x98\x80\xed\xa0\x80"))
	f.Fuzz(func(t *testing.T, line []byte) {
		for i := range min(9, len(line)+1) {
			sameScan(t, line[i:])
		}
	})
}

// TestTheTwoWaysThroughGB18030Agree compares the table with x/text.
func TestTheTwoWaysThroughGB18030Agree(t *testing.T) {
	t.Parallel()
	g := newGB18030(64)
	for a := range 256 {
		for b := range 256 {
			for _, tail := range []string{"", "x", "\x30\x81\x30", "\xb0\xa1"} {
				line := append([]byte{'a', byte(a), byte(b)}, tail...)
				fast, ok := g.decode(line)
				fast = slices.Clone(fast)
				want, wantOK := g.slow(line)
				if ok != wantOK || ok && !bytes.Equal(fast, want) {
					t.Fatalf("%x: %q %v, want %q %v", line, fast, ok, want, wantOK)
				}
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(header+"\r\n"+zhang+"\n"+li), uint16(100))
	f.Add([]byte(gb(header+"\n"+zhang+"\n")), uint16(7))
	f.Add([]byte("\xef\xbb\xbf"+header+"\n\n|||\n"), uint16(300))
	f.Add([]byte("\x84\x31\x95\x33"), uint16(0))
	cols := columns(f, "3003")
	f.Fuzz(func(t *testing.T, body []byte, limit uint16) {
		o := Options{MaxLine: 64 + int(limit)}
		walk := func(in io.Reader) (rows []string, s Summary, err error) {
			r := New(in, cols, o)
			for r.Next() {
				for i, c := range cols {
					v := r.Field(i)
					if c.Required && len(v) == 0 || bytes.ContainsAny(v, "|\r\n\x00") || !bytes.Equal(v, bytes.ToValidUTF8(v, nil)) {
						t.Fatalf("row %q", v)
					}
					rows = append(rows, string(v))
				}
			}
			return rows, r.Summary(), r.Err()
		}
		rows, s, err := walk(bytes.NewReader(body))
		if err != nil && !errors.Is(err, ErrHeader) || len(s.List) > defaultMaxBad || s.Rows*len(cols) != len(rows) {
			t.Fatalf("%+v %v", s, err)
		}
		// How the bytes arrive changes nothing.
		again, s2, err2 := walk(iotest.OneByteReader(bytes.NewReader(body)))
		if !slices.Equal(rows, again) || s.Bad != s2.Bad || (err == nil) != (err2 == nil) {
			t.Fatalf("byte by byte: %+v %v, else %+v %v", s2, err2, s, err)
		}
	})
}

// body is a table of n rows as a city's look.
func body(n int) []byte {
	var b bytes.Buffer
	b.WriteString(header + "\n")
	for i := range n {
		fmt.Fprintf(&b, "%010d|%s|32050%05d|%d幢%d单元%d室|1|A|0512%07d|136%08d|WJ0105\n", 1400000000+i, []string{"张三", "李小四", "欧阳建国", "王强"}[i%4], i%50000, i%90, i%6, 101+i%30, i%9999999, i)
	}
	return b.Bytes()
}

// cpuTime is what this thread has computed so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAgainstCSV prints the ratio to encoding/csv over the same bytes in
// the same run, once with a record of its own a row and once with a reused one.
// The acceptance line is "at least 2x".
func BenchmarkAgainstCSV(b *testing.B) {
	for _, x := range []struct {
		name string
		in   []byte
	}{{"utf-8", body(100_000)}, {"gb18030", []byte(gb(string(body(100_000))))}} {
		b.Run(x.name, func(b *testing.B) {
			cols := columns(b, "3003")
			ours := func() int {
				r := New(bytes.NewReader(x.in), cols, Options{})
				n := 0
				for r.Next() {
					n += len(r.Field(1))
				}
				if r.Err() != nil || r.Summary().Bad != 0 {
					b.Fatal(r.Err(), r.Summary())
				}
				return n
			}
			theirs := func(reuse bool) int {
				var in io.Reader = bytes.NewReader(x.in)
				if x.name == "gb18030" {
					in = simplifiedchinese.GB18030.NewDecoder().Reader(in)
				}
				r := csv.NewReader(in)
				r.Comma, r.ReuseRecord, r.LazyQuotes = '|', reuse, true
				n := 0
				for {
					rec, err := r.Read()
					if err != nil {
						if !errors.Is(err, io.EOF) {
							b.Fatal(err)
						}
						return n
					}
					n += len(rec[1])
				}
			}
			b.SetBytes(int64(len(x.in)))
			b.ReportAllocs()
			// CPU time of this thread, best of some, in turns: the machine is shared.
			times := [3]time.Duration{1 << 62, 1 << 62, 1 << 62}
			measure := func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				for range 15 {
					for i, f := range []func() int{ours, func() int { return theirs(false) }, func() int { return theirs(true) }} {
						at := cpuTime(b)
						f()
						times[i] = min(times[i], cpuTime(b)-at)
					}
				}
			}
			for b.Loop() {
				ours()
			}
			b.StopTimer()
			measure()
			t, plain, reused := times[0], times[1], times[2]
			b.ReportMetric(float64(plain)/float64(t), "x-csv")
			b.ReportMetric(float64(reused)/float64(t), "x-csv-reuse")
			fmt.Fprintf(os.Stderr, "parse %s: %d bytes: table %v, encoding/csv %v (%.1fx), with ReuseRecord %v (%.1fx)\n",
				x.name, len(x.in), t, plain, float64(plain)/float64(t), reused, float64(reused)/float64(t))
		})
	}
}
