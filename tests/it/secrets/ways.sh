# Prints the value of each secret in $NAMES in one way, $1, behind a line that names it. The values are those of the
# variables, or of the files that these name where $AS is `file`.

# Byte by byte, in hex.
hex() { od -An -v -tx1 | tr -d ' \n'; }

# Byte by byte with an awk program, which finds the byte's number in $1.
bytes() { od -An -v -tu1 -w1 | awk "$1"; }

# The value behind the text $1, in base64.
behind() { printf '%s%s' "$1" "$value" | base64 "$2"; }

print() {
  case $1 in
  plain) printf '%s\n' "$value" ;;
  within) printf 'before%safter\n' "$value" ;;
  base64) printf %s "$value" | base64 ;;
  base64-1) behind x -w64 ;;
  base64-2) behind xx -w76 ;;
  base64-line) behind '' -w0 ;;
  base64-line-1) behind x -w0 ;;
  base64-line-2) behind xx -w0 ;;
  base64-narrow) behind yyy -w5 ;;
  base64-url) behind x -w0 | tr +/ -_ ;;
  base64-echo) printf '%s\n' "$value" | base64 -w0 ;;
  base64-twice) printf %s "$value" | base64 | base64 ;;
  hex) printf %s "$value" | hex ;;
  hex-upper) printf %s "$value" | hex | tr a-f A-F ;;
  hex-wrapped) printf %s "$value" | hex | fold -w 60 ;;
  od) printf 'x%s' "$value" | od -x ;;
  od-bytes) printf 'xyz%s' "$value" | od -A x -t x1z -w11 ;;
  od-octal) printf '%s' "$value" | od -An -b ;;
  od-characters) printf 'xy%s' "$value" | od -c ;;
  od-both) printf 'x%s' "$value" | od -v -t x1 -c ;;
  percent)
    printf %s "$value" | bytes '{
      c = $1; kept = c == 45 || c == 46 || c == 95 || c == 126 || c >= 48 && c <= 57 || c >= 65 && c <= 90 || c >= 97 && c <= 122
      printf kept ? "%c" : "%%%02X", c }'
    ;;
  percent-form)
    printf %s "$value" | bytes '{
      c = $1; kept = c == 45 || c == 46 || c == 95 || c == 126 || c >= 48 && c <= 57 || c >= 65 && c <= 90 || c >= 97 && c <= 122
      printf c == 32 ? "+" : kept ? "%c" : "%%%02x", c }'
    ;;
  percent-all) printf %s "$value" | hex | sed 's/../%&/g' ;;
  json)
    printf %s "$value" | bytes '{
      c = $1
      if (c == 10) printf "\\n"; else if (c == 34) printf "\\\""; else if (c == 92) printf "\\\\"; else printf "%c", c }'
    ;;
  quoted) printf '%s\n' "$value" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/" ;;
  slashes) printf '%s\n' "$value" | sed "s/[\\\\\"']/\\\\&/g" ;;
  halves)
    half=$((${#value} / 2))
    printf %s "$value" | head -c "$half"
    sleep 0.05
    printf %s "$value" | tail -c "+$((half + 1))"
    ;;
  trickle)
    printf %s "$value" | head -c 90 | sed 's/./&\n/g' | while IFS= read -r char; do printf %s "$char"; done
    printf %s "$value" | tail -c +91
    ;;
  missing) sh -c '"$0"' "$value" || : ;;
  refused) LC_ALL=C.UTF-8 ls "$value" || : ;;
  traced) sh -xc ': "$0"; test "$0" = x' "$value" || : ;;
  file-name)
    case $value in
    */*) printf '%s\n' "$value" ;;
    *) (mkdir -p made && cd made && rm -f ./* && touch -- "$value" && ls) || printf '%s\n' "$value" ;;
    esac
    ;;
  python) python3 -c 'import sys, json, urllib.parse, html; v = sys.argv[1]
for f in urllib.parse.quote, urllib.parse.quote_plus, json.dumps, repr, html.escape: print(f(v))' "$value" ;;
  jq) printf %s "$value" | jq -Rrs '@uri, @json, @sh, @base64, @html' ;;
  bash) bash -c 'printf "%q\n" "$1"; declare -p 1 2>&1 | cat; set -x; : "$1"' bash "$value" ;;
  python-csv) python3 -c 'import sys, csv; csv.writer(sys.stdout).writerow(["a", sys.argv[1], "b"])' "$value" ;;
  python-ascii) python3 -c 'import sys; print(ascii(sys.argv[1]))' "$value" ;;
  python-json-twice) python3 -c 'import sys, json; print(json.dumps(json.dumps({"a": sys.argv[1]})))' "$value" ;;
  python-json-base64)
    python3 -c 'import sys, json, base64; print(base64.b64encode(json.dumps({"a": sys.argv[1]}).encode()).decode())' "$value"
    ;;
  grep) printf '%s\n' "$value" | grep -a --color=always '[a-z]' ;;
  xxd) printf %s "$value" | xxd -p ;;
  xxd-lines) printf 'x%s' "$value" | xxd -u -c 13 ;;
  xxd-words) printf 'x%s' "$value" | xxd -e ;;
  hexdump) printf 'x%s' "$value" | hexdump -C ;;
  hexdump-words) printf 'x%s' "$value" | hexdump ;;
  # What is left behind is named by the job's cleanup.
  process) sh -c 'while :; do sleep 100; done' "$value" >/dev/null 2>&1 & ;;
  esac
}

exec 2>&1
[ "$1" = missing ] || [ "$2" != stderr ] || exec >&2
for name in $NAMES; do
  eval "value=\$$name"
  if [ "$AS" = file ]; then
    value=$(cat "$value" && printf x)
    value=${value%x}
  fi
  printf '=== %s\n' "$name"
  print "$1"
  printf '\n'
done
[ "$1" != last ]
